"""The row of a machine in docs/performance.md's table by processor, from what `python -m benchmarks` has just measured.

python -m benchmarks.row TRAINING.jsonl SIDE_BY_SIDE.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._common import bfloat16_units, commit, processor, read_lines, spread, table
from benchmarks.training import shares_of_floor

HEADER = (
    *("processor", "fp32, tokens/s", "of the floor", "bf16, tokens/s", "of the floor"),
    *("HF Trainer, slower by", "TRL packing, slower by", "six small runs side by side", "rounds", "commit"),
)
_HF, _TRL = "HF Trainer fp32", "TRL fp32, packing, no checkpointing"


def row(training: list[dict[str, Any]], sweep: list[dict[str, Any]]) -> list[str]:
    """One cell for each header; "" where nothing was measured."""
    speeds: dict[str, dict[int, float]] = {}
    for line in (line for line in training if "result" in line):
        speeds.setdefault(line["contender"], {})[line["round"]] = line["result"]["tokens_per_s"]
    shares = shares_of_floor(training)
    # The faster of the two ways to multiply in float32 is the floor.
    fp32 = min((shares[each] for each in ("fp32", "fp32 through oneDNN") if each in shares), key=median, default=[])
    return [
        ", ".join([processor(), *bfloat16_units()]),
        _spread(list(speeds.get("harness fp32", {}).values())),
        _percent(fp32),
        _spread(list(speeds.get("harness bf16", {}).values())),
        _percent(shares.get("bf16", [])),
        *(_ratio(speeds.get("harness fp32", {}), speeds.get(name, {})) for name in (_HF, _TRL)),
        spread([ratio for line in sweep for ratio in line["ratios"]]) if sweep else "",
        str(len({line["round"] for line in training})),
        commit(),
    ]


def _spread(values: list[float]) -> str:
    return spread(values, 0) if values else ""


def _percent(values: list[float]) -> str:
    return f"{_spread(values)} %" if values else ""


def _ratio(ours: dict[int, float], theirs: dict[int, float]) -> str:
    both = sorted(ours.keys() & theirs.keys())
    return spread([ours[each] / theirs[each] for each in both]) if both else ""


def main() -> None:
    training, sweep = (read_lines(Path(each)) for each in sys.argv[1:3])
    print(table(HEADER, [row(training, sweep)]))


if __name__ == "__main__":
    main()
