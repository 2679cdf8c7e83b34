"""`python -m analysis COMMAND`: one file for each command, with its arguments."""
