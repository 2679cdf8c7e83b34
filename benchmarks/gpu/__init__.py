"""Ten minutes on a GPU: one check for every question that a CPU cannot answer (docs/gpu.md).

Needs torch, transformers, accelerate and this checkout. Without pydantic, the modules of harness.data are imported one
by one: the package itself imports the settings' schema, which no check needs.
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
