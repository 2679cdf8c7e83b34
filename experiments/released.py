"""What released outputs say of NEFTune: a model with it against one without, as judged and at equal length.

    python -m experiments.released FOLDER_OF_THE_BASE FOLDER_OF_NEFTUNE [--difficulty F --gamed F] [-o table.md]

Each folder holds an AlpacaEval leaderboard model's annotations.json with model_outputs.json beside it (from
tatsu-lab/alpaca_eval: results/alpaca-7b and results/alpaca-7b-neft). Differences are paired by instruction; intervals
are 95% bootstraps over instructions, and over the five sources of the instructions, which are few.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.judge.annotations import Row, join_on_instruction, read_annotations, read_model_outputs
from harness.metrics import length_controlled_win_rate, paired_bootstrap, repetition, win_fractions
from harness.record import write_text

TOLERANCES = (0.1, 0.25, 0.5)
Line = tuple[str, int, float, float, dict[str, Any] | None, dict[str, Any] | None]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("neftune", type=Path)
    parser.add_argument("--difficulty", type=Path, help="AlpacaEval's instruction_difficulty.csv")
    parser.add_argument("--gamed", type=Path, help="AlpacaEval's df_gamed.csv")
    parser.add_argument("-o", "--output", type=Path, help="a Markdown file; else it is printed")
    parsed = parser.parse_args(arguments)
    try:
        text = report(parsed.base, parsed.neftune, parsed.difficulty, parsed.gamed)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if parsed.output:
        write_text(parsed.output, text)
    else:
        print(text)
    return 0


def report(base: Path, neftune: Path, difficulty: Path | None = None, gamed: Path | None = None) -> str:
    """The table, as Markdown.

    Raises:
        ValueError: a bad file, other instructions in one than in the other, or other reference answers.
    """
    pairs = _pairs(base / "annotations.json", neftune / "annotations.json")
    lines = comparison(pairs)
    if difficulty and gamed:
        sides = [[pair[side] for pair in pairs] for side in (0, 1)]
        rates = [length_controlled_win_rate(side, difficulty, gamed)["length_controlled_winrate"] for side in sides]
        lines.insert(1, ("win rate, length-controlled (%)", len(pairs), rates[0], rates[1], None, None))
    lines += _repetition(base / "model_outputs.json", neftune / "model_outputs.json")
    head = f"| | instructions | {base.name} | {neftune.name} | difference [by instruction] | [by source] |\n"
    return head + "|---|---:|---:|---:|---:|---:|\n" + "\n".join(map(_shown, lines)) + "\n"


def comparison(pairs: Sequence[tuple[Row, Row]]) -> list[Line]:
    """Win rate and length over all instructions, where both answers are as long as the reference's, and by source."""
    wins = [100 * win_fractions([pair[side]["preference"] for pair in pairs]) for side in (0, 1)]
    lengths = [np.array([float(len(pair[side]["output_2"])) for pair in pairs]) for side in (0, 1)]
    reference = np.array([float(len(pair[0]["output_1"])) for pair in pairs])
    sources = np.array([str(pair[0].get("dataset", "")) for pair in pairs])
    every = np.ones(len(pairs), dtype=bool)
    lines = [
        _line("win rate (%)", wins, sources, every),
        _line("characters", lengths, sources, every),
    ]
    for tolerance in TOLERANCES:
        alike = _alike(lengths[0], lengths[1], tolerance)
        lines.append(_line(f"win rate, the two answers within {tolerance:.0%} in length (%)", wins, sources, alike))
    both = _alike(lengths[0], reference, 0.25) & _alike(lengths[1], reference, 0.25)
    lines.append(_line("win rate, both within 25% of the reference's length (%)", wins, sources, both))
    for source in sorted(set(sources) - {""}):
        lines.append(_line(f"win rate, {source} (%)", wins, sources, sources == source))
    return lines


def _pairs(base: Path, neftune: Path) -> list[tuple[Row, Row]]:
    pairs, joined = join_on_instruction(read_annotations(base), read_annotations(neftune), str(base), str(neftune))
    if not joined.complete:
        raise ValueError(f"{neftune}: other instructions than {base}: {joined.describe(str(base), str(neftune))}")
    for one, other in pairs:
        for key in ("output_1", "annotator"):
            if one.get(key) != other.get(key):
                raise ValueError(f"{neftune}: another {key} than {base} for {one['instruction'][:60]!r}")
    return pairs


def _alike(one: np.ndarray, other: np.ndarray, tolerance: float) -> np.ndarray:
    found: np.ndarray = np.minimum(one, other) >= (1 - tolerance) * np.maximum(one, other)
    return found


def _line(name: str, values: Sequence[np.ndarray], sources: np.ndarray, kept: np.ndarray) -> Line:
    base, neftune = (each[kept] for each in values)
    if not len(base):
        return name, 0, float("nan"), float("nan"), None, None
    by_item = paired_bootstrap(neftune, base)
    several = len(set(sources[kept])) > 1
    by_source = paired_bootstrap(neftune, base, list(sources[kept])) if several else None
    return name, len(base), float(np.nanmean(base)), float(np.nanmean(neftune)), by_item, by_source


def _repetition(base: Path, neftune: Path) -> list[Line]:
    """2-gram repetition of the first 50 words, of answers that have as many in both files."""
    if not (base.exists() and neftune.exists()):
        return []
    texts = [{row["instruction"]: row["output"] for row in read_model_outputs(path)} for path in (base, neftune)]
    long = [each for each in texts[0] if all(len(text.get(each, "").split()) >= 50 for text in texts)]
    values = [np.array([100 * repetition(text[each], 2, 50) for each in long]) for text in texts]
    return [
        _line("2-gram repetition, 50 words (%)", values, np.array([""] * len(long)), np.ones(len(long), dtype=bool))
    ]


def _shown(line: Line) -> str:
    name, count, base, neftune, by_item, by_source = line
    difference = f"{neftune - base:+.2f}"
    intervals = [f"[{found['low']:+.2f}, {found['high']:+.2f}]" if found else "" for found in (by_item, by_source)]
    return f"| {name} | {count} | {base:.2f} | {neftune:.2f} | {difference} {intervals[0]} | {intervals[1]} |"


if __name__ == "__main__":
    sys.exit(main())
