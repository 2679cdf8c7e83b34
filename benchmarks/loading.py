"""How long it takes to read many runs from disk and to make tables of them.

    python -m benchmarks.loading                       # 200 runs, the project's limit is 10 seconds to all frames
    python -m benchmarks.loading --runs 500

The runs are synthetic and as large as real ones: every key that training logs at every step, and one answer and one
verdict for each of AlpacaEval's 805 instructions. The folders were just written, so the files are in the page cache.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.build import build
from analysis.layouts import LAYOUTS
from analysis.runs import Runs, load_runs
from analysis.status import status
from benchmarks._common import machine, table
from tests.run_folders import config_of, write_run

LOGGED = (
    *("train/loss", "train/penalty", "train/grad_norm", "train/lr", "train/documents", "train/rows", "train/tokens"),
    *("train/flops", "train/seconds", "train/tokens_per_second", "train/unique_examples"),
    *("noise/alpha", "noise/norm", "noise/ratio"),
)
CELLS = [
    ("none", 0.0),
    *((noise, alpha) for noise in ("neftune", "symnoise", "gaussian") for alpha in (1.0, 5.0, 15.0)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--instructions", type=int, default=805)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_runs(root, arguments.runs, arguments.steps, arguments.instructions)
        megabytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6
        seconds = measure(root)
    print(machine())
    print(
        f"\n{arguments.runs} runs, {arguments.steps} steps, {arguments.instructions} instructions: {megabytes:.0f} MB\n"
    )
    rows = [(what, f"{wall:.2f}", f"{processor:.2f}") for what, (wall, processor) in seconds.items()]
    print(table(("what", "seconds", "processor seconds"), rows))


def write_runs(root: Path, runs: int, steps: int, instructions: int) -> None:
    """Synthetic run folders: the cells of a grid in turn, seeds upwards."""
    generator = random.Random(0)
    for number in range(runs):
        noise, alpha = CELLS[number % len(CELLS)]
        history = [{"step": step} | {key: generator.random() for key in LOGGED} for step in range(1, steps + 1)]
        preferences = [1 + generator.random() for _ in range(instructions)]
        lengths = [generator.randint(100, 2000) for _ in range(instructions)]
        config = config_of(noise, alpha, seed=number // len(CELLS))
        write_run(root, config, {"heldout/loss": generator.random()}, preferences, lengths, history)


def measure(root: Path) -> dict[str, tuple[float, float]]:
    """Wall and processor seconds of each step; the first four together are what it takes to have all frames."""
    seconds: dict[str, tuple[float, float]] = {}
    runs: Runs = _timed(seconds, "runs and settings", lambda: _loaded(root))
    _timed(seconds, "history", lambda: runs.history)
    _timed(seconds, "generations", lambda: runs.generations)
    _timed(seconds, "preferences", lambda: runs.preferences)
    wall, processor = zip(*seconds.values(), strict=True)
    seconds["all frames"] = (sum(wall), sum(processor))
    for name in ("ablation", "differences", "symnoise_table1", "overhead"):
        layout = LAYOUTS[name]
        _timed(seconds, f"table {name}", lambda layout=layout: build(runs, layout))
    _timed(seconds, "status", lambda: status(str(root)))
    return seconds


def _loaded(root: Path) -> Runs:
    runs = load_runs(root)
    assert len(runs.runs) == len(runs.configs)
    return runs


def _timed(seconds: dict[str, tuple[float, float]], what: str, function: Callable[[], Any]) -> Any:
    start = time.perf_counter(), time.process_time()
    result = function()
    seconds[what] = time.perf_counter() - start[0], time.process_time() - start[1]
    return result


if __name__ == "__main__":
    main()
