"""Which optional packages are installed, and the message if one is missing."""

from __future__ import annotations

import importlib.util


def is_installed(package: str) -> bool:
    """Whether Python finds a package or module, without importing it."""
    return importlib.util.find_spec(package) is not None


def require_package(package: str, key: str, extra: str, advice: str = "") -> None:
    """Refuse a setting that needs a package of one of this project's extras.

    Args:
        package: its import name.
        key: the setting, as given.
        extra: the extra that installs the package.
        advice: what to do without it.

    Raises:
        ValueError: the package is not installed.
    """
    if not is_installed(package):
        then = f"; {advice}" if advice else ""
        raise ValueError(f"{key}: the package {package} is not installed (pip install 'noise-harness[{extra}]'){then}")
