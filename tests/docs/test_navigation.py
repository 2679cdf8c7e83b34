"""Every page of docs/ can be found from the site's navigation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAVIGATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]


def test_navigation_names_every_page_and_no_other() -> None:
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    # lab/ is made for the site; findings.md stands there, too. A release's notes are the text of its tag.
    pages = {page for page in pages if not page.startswith(("lab/", "releases/"))} - {"findings.md"}
    named = re.findall(r": ([\w/-]+\.md)$", NAVIGATION, re.MULTILINE)
    assert len(named) == len(set(named))
    assert {page for page in named if not page.startswith("lab/")} == pages
    assert {"lab/index.md", "lab/findings.md"} <= set(named)
