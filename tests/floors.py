"""The declared floors as pins, one a line, for an environment in which they are tried: `make floors`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

EXTRAS = ("run", "peft", "judge", "report", "liger")
# Tools, not what is under test.
NEWEST = ("pytest", "pytest-xdist", "hypothesis", "psutil", "rouge-score", "jsonschema")


def pins() -> list[str]:
    """`torch>=2.11` and `torch~=2.11` as torch==2.11; exact versions stay."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(each for extra in EXTRAS for each in project["optional-dependencies"][extra]),
    ]
    others = [each for each in declared if not each.startswith("noise-harness")]
    return [re.sub(r"[>~]=([^,]+).*", r"==\1", each) for each in others] + list(NEWEST)


if __name__ == "__main__":
    print(*pins(), sep="\n")
