"""What a command does: plan, check, prepare, run the stages in order."""

from harness.pipeline.runner import execute

__all__ = ["execute"]
