"""`python -m benchmarks` (make bench): the quick benchmarks, without any download; about 20 minutes on 2 cores.

Each prints a Markdown table of ratios, medians with their spread, with the machine and the commit; the last line is the
row of this machine for the table by processor in docs/performance.md. `python -m benchmarks --row` measures that row
alone. The full runs, with real weights and data, are described at the top of each script; their records lie in
benchmarks/results.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

TRAINED = ("harness fp32", "harness bf16", "HF Trainer fp32", "TRL fp32, packing, no checkpointing")


def quick(folder: Path, rounds: int, is_row: bool) -> list[tuple[str, ...]]:
    """The commands; two of them leave what the row is made of in the folder."""
    training, sweep = str(folder / "training.jsonl"), str(folder / "sweep.jsonl")
    of_row: list[tuple[str, ...]] = [
        ("benchmarks.training", "--steps", "1", "--repeats", str(rounds), "--save", training, "--contenders", *TRAINED),
        ("benchmarks.side_by_side", "--rounds", str(rounds), "--save", sweep),
    ]
    others: list[tuple[str, ...]] = [
        ("benchmarks.generation", "--new-tokens", "64", "--one-by-one", "8", "--slots", "64"),
        ("benchmarks.noise_cost", "--rounds", "2"),
        ("benchmarks.sweep", "--repeats", "2"),
    ]
    return [*of_row, *([] if is_row else others), ("benchmarks.row", training, sweep)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", action="store_true", help="only what the row of this machine is made of")
    parser.add_argument("--rounds", type=int, default=2, help="of the trainings and of the sweeps")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for module, *arguments in quick(Path(folder), options.rounds, options.row):
            print(f"\n## {module}\n", flush=True)
            subprocess.run([sys.executable, "-m", module, *arguments], check=True)


if __name__ == "__main__":
    main()
