"""A finished run as a model folder that can be pushed to a hub: weights or adapter, tokenizer, model card."""

from __future__ import annotations

from harness.export.folder import export

__all__ = ["export"]
