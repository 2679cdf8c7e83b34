"""Ten minutes on a GPU: every doubt that no CPU can settle as a check of its own (docs/gpu.md).

Needs torch, transformers, accelerate and this checkout. Where pydantic is missing, the package that reads data is
entered by its modules: its door reads the settings' schema, which no check needs.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

if importlib.util.find_spec("pydantic") is None and "harness.data" not in sys.modules:
    bare = ModuleType("harness.data")
    bare.__path__ = [str(Path(__file__).parents[2] / "harness" / "data")]
    sys.modules["harness.data"] = bare
