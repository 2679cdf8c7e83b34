"""Exports a finished run as a model folder for the Hub: weights or adapter, tokenizer, model card."""

from __future__ import annotations

from harness.export.folder import export

__all__ = ["export"]
