"""The lab book for readers: its pages in the documentation site, and its findings in README.

    python -m experiments.site docs/lab       # the pages; `make docs` does it first
    python -m experiments.site README.md      # the table between the marks <!-- findings --> and <!-- /findings -->

Folders and files keep their names; a link to a study's folder becomes one to its README, so that it opens from disk.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
_DOCS = HERE.parent / "docs"
_SUFFIXES = {".md", ".png", ".csv", ".json", ".yaml", ".sh"}
_MARKS = re.compile(r"<!-- findings -->(.*)<!-- /findings -->", re.DOTALL)
# Tables, samples and captions of studies would hide the pages that a reader searches for.
_NOT_SEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
MOST = 5  # README is read in a few minutes; the lab book has them all
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^]]*)\]\((?P<link>[^)#:\s]+)(?P<part>#[^)]*)?\)")


def write_site(target: Path) -> int:
    """Copies every study, the index and the findings; returns how many studies there are.

    target: a folder in docs/.
    """
    shutil.rmtree(target, ignore_errors=True)
    studies = sorted(path.parent for path in HERE.glob("20*/README.md"))
    files = [path for study in studies for path in sorted(study.iterdir()) if path.suffix in _SUFFIXES]
    for path in (HERE / "README.md", *files, *_DOCS.glob("findings.md")):
        _write(path, _copy_of(path, target), target)
    return len(studies)


def _copy_of(path: Path, target: Path) -> Path:
    """Where a file of the lab book, or the page of its findings, stands in the site; others stay where they are."""
    if path == HERE / "README.md":
        return target / "index.md"
    if path == _DOCS / "findings.md":
        return target / "findings.md"
    if path.is_relative_to(HERE):
        return target / path.relative_to(HERE)
    return target.parent / path.relative_to(_DOCS) if path.is_relative_to(_DOCS) else path


def _write(source: Path, copy: Path, target: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix != ".md":
        shutil.copyfile(source, copy)
        return

    def place(found: re.Match[str]) -> str:
        goal = (source.parent / found["link"]).resolve()
        goal = goal / "README.md" if goal.is_dir() else goal
        if not goal.is_relative_to(HERE) and not goal.is_relative_to(_DOCS):
            return f"{found['text']} (`{os.path.relpath(goal, HERE.parent)}`)"  # the site does not have it
        link = os.path.relpath(_copy_of(goal, target), copy.parent)
        return f"{found['image']}[{found['text']}]({link}{found['part'] or ''})"

    text = _LINK.sub(place, source.read_text("utf-8")).replace("] [", "] \\[")  # two brackets, not a reference
    head = "" if source.name in ("README.md", "findings.md") else _NOT_SEARCHED
    copy.write_text(head + text, encoding="utf-8")


def findings() -> str:
    """The first studies of the index as README shows them: about what, what was seen, where. Plans are left out."""
    index = (HERE / "README.md").read_text("utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in index if line.startswith("| [20")]
    lines = ["| about | what was seen |", "|---|---|"]
    for links, about, seen in [row for row in rows if row[-1] != "planned"][:MOST]:
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
