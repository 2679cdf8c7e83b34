"""What is saved on W&B: a workspace and a report with this project's panels."""
