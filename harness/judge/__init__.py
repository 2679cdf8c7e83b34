"""Judges, their verdicts, and the scores of a file of verdicts."""
