"""Where what was computed once is kept for all runs of this machine; deleting the folder costs time only."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """$NOISE_HARNESS_CACHE, else noise-harness in the user's cache folder."""
    base = os.environ.get("NOISE_HARNESS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "noise-harness"
    )
    return Path(base).expanduser()
