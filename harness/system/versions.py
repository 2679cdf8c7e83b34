"""The oldest supported releases, and one clear error if an older one is installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

# As in pyproject.toml, for the packages whose older releases fail late: `make floors` runs the tests with these.
FLOORS = {"torch": "2.11", "transformers": "5.17", "accelerate": "1.10", "safetensors": "0.8"}


def check_versions(floors: dict[str, str] = FLOORS) -> None:
    """Compare the installed packages with the floors.

    Raises:
        ValueError: a package is older than its floor, or missing.
    """
    old = [
        f"{name} {found} (at least {floor})" for name, floor in floors.items() if _older(found := _found(name), floor)
    ]
    if old:
        update = " ".join(f"'{name}>={floor}'" for name, floor in floors.items())
        raise ValueError(f"too old for the harness: {', '.join(old)}; pip install {update}")


def _found(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _older(found: str, floor: str) -> bool:
    return found == "missing" or _numbers(found) < _numbers(floor)


def _numbers(text: str) -> tuple[int, ...]:
    """2.13.0+cpu -> (2, 13, 0); 5.17.0.dev0 -> (5, 17, 0)."""
    release = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, release[0].split("."))) if release else ()
