"""The lab book as pages of the documentation site: `python -m experiments.site docs/lab`, which `make docs` does first.

Folders and files keep their names; a link to a study's folder becomes one to its README, so that it opens from disk.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
_SUFFIXES = {".md", ".png", ".csv", ".json", ".yaml", ".sh"}
_LINK = re.compile(r"(\]\()([^)#:\s]+)(\)|#)")


def write_site(target: Path) -> int:
    """Copies every study and the index of all; returns how many studies there are."""
    shutil.rmtree(target, ignore_errors=True)
    studies = sorted(path.parent for path in HERE.glob("20*/README.md"))
    _write(HERE / "README.md", target / "index.md")
    for study in studies:
        for path in sorted(study.iterdir()):
            if path.suffix in _SUFFIXES:
                _write(path, target / study.name / path.name)
    return len(studies)


def _write(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix != ".md":
        shutil.copyfile(source, target)
        return
    text = _LINK.sub(lambda found: found[1] + _place(found[2], source.parent) + found[3], source.read_text("utf-8"))
    target.write_text(text, encoding="utf-8")


def _place(link: str, folder: Path) -> str:
    """Where a link leads from the copy: a folder's README, a page of docs/ beside the lab book, else the same."""
    goal = (folder / link).resolve()
    docs = HERE.parent / "docs"
    if goal.is_relative_to(docs):
        up = "../" if folder == HERE else "../../"
        return up + goal.relative_to(docs).as_posix()
    if goal.is_dir() and (goal / "README.md").exists():
        return f"{link.rstrip('/')}/README.md"
    return link


if __name__ == "__main__":
    print(f"{write_site(Path(sys.argv[1]))} studies")
