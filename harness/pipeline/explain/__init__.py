"""`harness.explain=true`: a run's recipe against the papers', and its expected cost, before anything is loaded."""

from __future__ import annotations

from harness.pipeline.explain.report import explain

__all__ = ["explain"]
