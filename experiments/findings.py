"""docs/findings.md from the studies' files: each claim of the papers, the evidence, the verdict, what would change it.

    python -m experiments.findings            # writes docs/findings.md
    python -m experiments.findings --table    # prints a short table, for a README

The claims, and sentences without numbers, are in experiments/findings.yaml. No number is typed in: verdicts come from a
study's verdicts.csv, shares of the gradient from its gradient.csv, other numbers from its table.md. A study without
results says so.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.record import write_text

BOOK = Path(__file__).parent
ROOT = BOOK.parent
NOT_RUN = "not run yet"
_LAB = "../experiments"
Entry = Mapping[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the short table alone")
    parsed = parser.parse_args(arguments)
    try:
        content = yaml.safe_load((BOOK / "findings.yaml").read_text("utf-8"))
        if parsed.table:
            print(short_table(content["claims"], BOOK))
        else:
            write_text(ROOT / "docs" / "findings.md", page(content, BOOK))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def page(content: Mapping[str, Any], book: Path) -> str:
    """The whole page, as Markdown."""
    parts = [
        "# Findings",
        "What the two papers claim, what the lab book has on it, and what would change the verdict. Made by"
        " `python -m experiments.findings` from the studies' files; a verdict is of a measure that its study's plan"
        " named primary, with the margin fixed before the runs.",
        short_table(content["claims"], book),
    ]
    for claim in content["claims"]:
        lines = [f"- [{each['study']}]({_LAB}/{each['study']}): {found(each, book)}" for each in claim["evidence"]]
        parts += [f"## {claim['claim']}", f"*{claim['paper']}*", "\n".join(lines)]
        parts += [f"**Verdict.** {_sentence(verdict(claim, book))}"]
        parts += [f"**What would change it.** {_sentence(claim['change'])}"]
    parts += [f"![{each['caption']}]({_relative(each['file'])})" for each in figures(content, book.parent)]
    return "\n\n".join(parts) + "\n"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def figures(content: Mapping[str, Any], root: Path) -> list[Entry]:
    """Those of the figures that are there."""
    return [each for each in content.get("figures", ()) if (root / each["file"]).exists()]


def _relative(file: str) -> str:
    return file.removeprefix("docs/") if file.startswith("docs/") else f"../{file}"


def short_table(claims: Sequence[Mapping[str, Any]], book: Path) -> str:
    """Claim and verdict, a row each."""
    rows = [f"| {claim['claim']} | {verdict(claim, book)} |" for claim in claims]
    return "\n".join(["| claim | verdict |", "|---|---|", *rows])


def verdict(claim: Mapping[str, Any], book: Path) -> str:
    """What the evidence decides: the claim's own sentence where there is one, and the studies' verdicts."""
    said = [claim["verdict"]] if "verdict" in claim else []
    alike: dict[str, dict[str, list[str]]] = {}
    for entry in claim["evidence"]:
        if "noise" in entry and (row := _verdict_row(entry, book)):
            noises = alike.setdefault(f"{entry['measure']}{_against(row)}: {row['verdict']}", {})
            noises.setdefault(entry["noise"], []).append(entry["alpha"])
    for decided, noises in alike.items():
        said.append(f"{decided} ({', '.join(f'{noise} at {_and(alphas)}' for noise, alphas in noises.items())})")
    waiting = sorted({str(each["study"]) for each in claim["evidence"] if found(each, book) == NOT_RUN})
    if waiting:
        said.append(f"still to come: {', '.join(waiting)}")
    return "; ".join(said) or NOT_RUN


def found(entry: Entry, book: Path) -> str:
    """One piece of evidence in words.

    Raises:
        ValueError: the study is there, and its files have no such row.
    """
    if not (book / entry["study"]).is_dir():
        raise ValueError(f"findings.yaml: {entry['study']}: there is no such study")
    if "noise" in entry:
        row = _verdict_row(entry, book)
        return NOT_RUN if row is None else _verdict_words(entry, row)
    if "strength" in entry:
        return _gradient_words(entry, book)
    return _table_words(entry, book)


def _against(row: Mapping[str, str]) -> str:
    """With what and in which model a row compares, from its table's title; none is not said."""
    model = re.search(r"model=([^,)]+)", row["table"])
    baseline = re.search(r"against (\S+),", row["table"])
    against = f" against {baseline[1]}" if baseline and baseline[1] != "none" else ""
    return f"{against}{f' ({model[1]})' if model else ''}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _verdict_row(entry: Entry, book: Path) -> dict[str, str] | None:
    wanted = {key: entry[key] for key in ("noise", "alpha", "measure")}
    return _row(book / entry["study"] / "verdicts.csv", wanted)


def _verdict_words(entry: Entry, row: Mapping[str, str]) -> str:
    low, high = (f"{float(row[f'difference {side}']):+.3g}" for side in ("low", "high"))
    difference, ratio = float(row["difference"]), float(row["noise to embedding"])
    named = f"{entry['noise']}, alpha {entry['alpha']}, {entry['measure']}{_against(row)}"
    return (
        f"{named}: {difference:+.3g} {row['unit']} [{low}, {high}], {row['seeds']} seeds, noise "
        f"{ratio:.2g} of the embeddings: **{row['verdict']}**"
    )


def _gradient_words(entry: Entry, book: Path) -> str:
    wanted = {"model": entry["which"], "strength": entry["strength"]}
    row = _row(book / entry["study"] / "gradient.csv", wanted, entry["model"])
    if row is None:
        return NOT_RUN
    column = next(each for each in row if each.startswith(entry["column"]) and each.endswith(")"))
    mean, low, high = (float(row[f"{column}{side}"]) for side in ("", " low", " high"))
    when = "before" if entry["which"] == "base" else "after"
    return (
        f"{entry['model']}, {when} fine-tuning, random signs at alpha {entry['strength']}: {entry['column']} "
        f"{mean:.3g}% [{low:.3g}, {high:.3g}]"
    )


def _table_words(entry: Entry, book: Path) -> str:
    path = book / entry["study"] / "table.md"
    if not path.exists():
        return NOT_RUN
    lines = [line for line in path.read_text("utf-8").splitlines() if line.startswith("|")]
    heads, *rows = ([cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines)
    for name, *cells in rows:
        if name == entry["row"]:
            shown = (f"{head} {cell}" for head, cell in zip(heads[1:], cells, strict=True) if cell)
            return f"{name}: {', '.join(shown)}"
    raise ValueError(f"{path}: no row {entry['row']!r}, which findings.yaml names")


def _row(path: Path, wanted: Mapping[str, str], title: str = "") -> dict[str, str] | None:
    """The row with these values, of the table whose title holds the word; None where the file is not there."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = [each for each in csv.DictReader(file) if title in each["table"]]
    for each in rows:
        if all(each.get(key) == value for key, value in wanted.items()):
            return each
    if title and not rows:
        return None  # another model's table is there
    raise ValueError(f"{path}: no row {dict(wanted)}, which findings.yaml names")


if __name__ == "__main__":
    sys.exit(main())
