"""`harness.explain=true`: a run's recipe against the papers', and what it will need, before anything loads."""

from __future__ import annotations

from harness.pipeline.explain.report import explain

__all__ = ["explain"]
