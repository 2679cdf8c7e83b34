"""Steps a second of the default model on one thread, beside an earlier commit: ratios within a round.

    python -m benchmarks.tiny_step --before 9db23ee --rounds 3      # three minutes on 2 cores

Both trees train today's `tiny_base` on the same rows with the same settings, `python -m harness stages=[train]`, each
in a process of its own with this environment's packages. The rate is that between the first logged step and the last,
so that loading and the first step are left out. The last losses are printed, because a faster step must be the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._common import ROOT, both_orders, environment_of, machine, spread, table, tree_of
from harness.config import DatasetConfig
from harness.data import load_examples

BATCH, LOG_EVERY, TARGET = 16, 5, 1.4
SETTINGS = (
    *("model=local", f"model.path={ROOT / 'harness/assets/tiny_base'}", "dataset=local", "dataset.heldout=8"),
    *("train.lr=0.0005", "train.precision=fp32", f"train.batch_size={BATCH}", f"train.log_every={LOG_EVERY}"),
    *("stages=[train]", "tracking=disabled", "alpha=5"),
)


def write_rows(path: Path, count: int) -> None:
    """Examples of the built-in tasks, in Alpaca's format."""
    train, _ = load_examples(DatasetConfig(name="builtin", size=count, heldout=0))
    rows = [{"instruction": each.instruction, "input": each.input, "output": each.output} for each in train]
    path.write_text(json.dumps(rows))


def rate_of(tree: Path, noise: str, steps: int, scratch: Path, rows: Path) -> tuple[float, float]:
    """Steps a second between the first and the last logged step, and the last loss.

    Raises:
        RuntimeError: the run failed.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        words = [
            *SETTINGS,
            f"noise={noise}",
            f"train.max_steps={steps}",
            f"dataset.path={rows}",
            f"output_dir={folder}",
        ]
        environment = environment_of(tree, scratch, OMP_NUM_THREADS="1", WANDB_MODE="offline")
        command = [sys.executable, "-m", "harness", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{tree}: python -m harness {' '.join(words)} failed:\n{done.stderr[-2000:]}")
        (log,) = Path(folder).glob("*/metrics.jsonl")
        logged = [row for line in log.read_text().splitlines() if "train/seconds" in (row := json.loads(line))]
    first, last = logged[0], logged[-1]
    return (last["step"] - first["step"]) / (last["train/seconds"] - first["train/seconds"]), last["train/loss"]


def measure(trees: dict[str, Path], options: Any, scratch: Path) -> list[list[str]]:
    """A row for each noise: steps a second by tree, ratio, last losses."""
    rows, places, found = scratch / "rows.json", {}, []
    write_rows(rows, BATCH * options.steps + 8)
    for number, name in enumerate(trees):
        (scratch / str(number)).mkdir()
        places[name] = scratch / str(number)
        rate_of(
            trees[name], options.noises[0], LOG_EVERY + 1, places[name], rows
        )  # compiles the code, keeps the tokens
    for noise in options.noises:
        rates: dict[str, list[float]] = {name: [] for name in trees}
        losses: dict[str, float] = {}
        for name in both_orders(list(trees), options.rounds):
            rate, losses[name] = rate_of(trees[name], noise, options.steps, places[name], rows)
            rates[name].append(rate)
            print(f"{noise}, {name}: {rate:.2f} steps/s", file=sys.stderr, flush=True)
        before, now = rates.values()
        ratios = [mine / theirs for theirs, mine in zip(before, now, strict=True)]
        said = " / ".join(f"{loss:.6f}" for loss in losses.values())
        found.append([noise, spread(before), spread(now), spread(ratios), said])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="a commit, or a folder that holds one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--noises", nargs="+", default=["neftune", "symnoise"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tree_of(options.before) as before:
        found = measure({options.before: before, "now": ROOT}, options, Path(folder))
    print(f"{machine()}\n\nsteps of {BATCH} documents, one thread, {options.rounds} rounds in both orders\n")
    header = ["noise", f"{options.before}, steps/s", "now, steps/s", f"ratio [{TARGET}]", "last loss, before / now"]
    print(table(header, found))


if __name__ == "__main__":
    main()
