"""The lab book in the documentation site and in README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.site import HERE, MOST, findings, write_findings, write_site


def test_every_study_is_a_page_and_every_link_of_the_copies_leads_somewhere(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    count = write_site(docs / "lab")
    assert count == len(list(HERE.glob("20*/README.md")))
    theirs = HERE.parent / "docs"
    for path in (path for path in theirs.rglob("*.*") if not path.is_relative_to(theirs / "lab")):
        copy = docs / path.relative_to(theirs)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    for page in (docs / "lab").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            assert re.match(r"[a-z]+:", target) or (page.parent / target).is_file(), f"{page}: {target}"


def test_readme_names_the_first_studies_that_were_done() -> None:
    index = (HERE / "README.md").read_text("utf-8")
    done = [line for line in index.splitlines() if line.startswith("| [20") and not line.endswith("| planned |")]
    lines = findings().splitlines()
    assert len(lines) == 2 + min(MOST, len(done))
    for line in lines[2:]:
        (place,) = re.findall(r"\]\(experiments/([\w-]+)\)", line)
        assert (HERE / place / "README.md").exists()


def test_the_table_stands_between_the_marks_whatever_stood_there(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- findings -->\nold\n<!-- /findings -->\nafter\n")
    for _ in range(2):
        write_findings(page)
        assert page.read_text() == f"before\n<!-- findings -->\n{findings()}\n<!-- /findings -->\nafter\n"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no marks"):
        write_findings(page)
