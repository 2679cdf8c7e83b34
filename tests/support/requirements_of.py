"""What a wheel requires, without the packages named: PYTHON requirements_of.py WHEEL NAME ..."""

from __future__ import annotations

import re
import sys
import zipfile


def requirements(wheel: str, without: list[str]) -> list[str]:
    """Lines for `pip install -r`, extras left out."""
    with zipfile.ZipFile(wheel) as files:
        metadata = next(name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        lines = files.read(metadata).decode().splitlines()
    found = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    plain = [line for line in found if "extra ==" not in line]
    return [line for line in plain if (re.match(r"[A-Za-z0-9._-]+", line) or [""])[0].lower() not in without]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1], sys.argv[2:])))
