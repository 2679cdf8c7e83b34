"""The lab book for readers: its pages in the documentation site, and its findings in README.

    python -m experiments.site docs/lab       # the pages; `make docs` does it first
    python -m experiments.site README.md      # the table between the marks <!-- findings --> and <!-- /findings -->

Folders and files keep their names; a link to a study's folder becomes one to its README, so that it opens from disk.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
_SUFFIXES = {".md", ".png", ".csv", ".json", ".yaml", ".sh"}
_MARKS = re.compile(r"<!-- findings -->(.*)<!-- /findings -->", re.DOTALL)
_MOST = 8  # README is read in a few minutes; the lab book has them all
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


def findings() -> str:
    """The first studies of the index as README shows them: about what, what was seen, where. Plans are left out."""
    index = (HERE / "README.md").read_text("utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in index if line.startswith("| [20")]
    lines = ["| about | what was seen |", "|---|---|"]
    for links, about, seen in [row for row in rows if row[-1] != "planned"][:_MOST]:
        places = re.findall(r"\[[^]]*\]\(([^)]+)\)", links)
        lines.append(f"| [{about}](experiments/{places[0]}) | {seen} |")
    return "\n".join(lines)


def write_findings(page: Path) -> None:
    """Puts the table between the page's marks.

    Raises:
        ValueError: the page has no marks.
    """
    text = page.read_text("utf-8")
    found = _MARKS.search(text)
    if not found:
        raise ValueError(f"{page}: has no marks <!-- findings --> and <!-- /findings -->")
    page.write_text(text[: found.start(1)] + f"\n{findings()}\n" + text[found.end(1) :], encoding="utf-8")


if __name__ == "__main__":
    goal = Path(sys.argv[1])
    if goal.suffix == ".md":
        write_findings(goal)
    else:
        print(f"{write_site(goal)} studies")
