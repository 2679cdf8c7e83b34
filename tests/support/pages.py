"""What README and the pages of docs/ tell a reader to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_DOCS = ROOT / "docs"
_LAB = _DOCS / "lab"  # a copy of experiments/, made for the site
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted(page for page in _DOCS.rglob("*.md") if not page.is_relative_to(_LAB)),
]
_PROGRAMS = ("python", "make", "pip", "uv", "harness", "wandb", "hf", "transformers", "docker")
_STARTS = (*_PROGRAMS, "RUNS=", "PYTHONPATH=", "NODE_RANK=")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:python -m|make|pip install) [^`\n]+)`")
_HISTORY = ("decisions.md",)  # what was typed once is history there


@dataclass(frozen=True)
class Command:
    """One command of a page, its comment left out."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}: {shlex.join(self.words)}"


def commands(page: Path) -> list[Command]:
    """All commands of a page: in indented and fenced blocks, and in the text's own code marks."""
    if page.name in _HISTORY:
        return []
    text = page.read_text(encoding="utf-8")
    fenced = [body for language, body in _FENCE.findall(text) if language in ("", "bash", "console", "sh")]
    rest = _FENCE.sub("", text)
    indented = "\n".join(line[4:] for line in rest.splitlines() if line.startswith("    "))
    lines = [*_joined(indented), *(line for body in fenced for line in _joined(body)), *_INLINE.findall(rest)]
    return [Command(page, tuple(words)) for line in lines if (words := _words(line))]


def _joined(block: str) -> Iterator[str]:
    """Lines, those that end in a backslash with the one that follows."""
    yield from re.sub(r"\\\n\s*", "", block).splitlines()


def _words(line: str) -> list[str]:
    line = line.strip()
    if not line.startswith(_STARTS):
        return []
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    while words and re.match(r"^[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def files(page: Path) -> dict[str, str]:
    """Files that the page shows whole, by the path in their first line (`# conf/noise/mine.yaml`)."""
    found = {}
    for _, body in _FENCE.findall(page.read_text(encoding="utf-8")):
        head = re.match(r"# ([\w/.]+\.(?:yaml|py))\b", body)
        if head:
            found[head[1]] = body
    return found
