"""The six runs of the default sweep side by side, beside the same one at a time with all cores: a ratio of wall times.

    python -m benchmarks.side_by_side --rounds 3                   # a quarter of the data; six minutes on 2 cores
    python -m benchmarks.side_by_side --rounds 3 --full            # as the default sweep is; half an hour

`python -m harness -m noise=symnoise,neftune alpha=1,5,10` as it comes, and with `harness.workers=1` and a thread for
each core. Both start from an empty folder of runs and share one cache of tokens, which a first command fills. Ratios
are taken within a round, and the order is turned round after each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._common import ROOT, append_line, both_orders, environment_of, machine, spread, table

SWEEP = ("-m", "noise=symnoise,neftune", "alpha=1,5,10", "tracking=disabled")
QUARTER = ("dataset.size=600", "dataset.heldout=32", "eval_set.heldout=200", "eval_set.unseen=60")
SIDE_BY_SIDE, ONE_BY_ONE = "side by side", "one at a time"
TARGET = 0.55


def seconds_of(how: str, words: tuple[str, ...], folder: Path) -> float:
    """Wall time of the sweep.

    Raises:
        RuntimeError: it failed.
    """
    shutil.rmtree(folder / "runs", ignore_errors=True)
    environment = environment_of(ROOT, folder)
    environment.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-m", "harness", *SWEEP, *words, f"output_dir={folder / 'runs'}"]
    if how == ONE_BY_ONE:
        environment["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        command.append("harness.workers=1")
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    finished = len(list((folder / "runs").glob("*/done")))
    if done.returncode or finished != 6:
        raise RuntimeError(f"{how}: {finished} of 6 runs, status {done.returncode}:\n{done.stderr[-2000:]}")
    print(f"{how}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="all data of the default sweep, not a quarter")
    parser.add_argument("--words", nargs="*", default=[], metavar="KEY=VALUE", help="more settings of both")
    parser.add_argument("--save", type=Path, help="a file of JSON lines to which the measurement is added")
    options = parser.parse_args()
    words = (*(() if options.full else QUARTER), *options.words)
    taken: dict[str, list[float]] = {SIDE_BY_SIDE: [], ONE_BY_ONE: []}
    with tempfile.TemporaryDirectory() as folder:
        seconds_of(SIDE_BY_SIDE, (*words, "train.max_steps=1", "stages=[train]"), Path(folder))
        for how in both_orders(list(taken), options.rounds):
            taken[how].append(seconds_of(how, words, Path(folder)))
    ratios = [ours / theirs for ours, theirs in zip(*taken.values(), strict=True)]
    verdict = "met" if sorted(ratios)[len(ratios) // 2] <= TARGET else "missed"
    print(f"{machine()}\n\n{options.rounds} rounds, {' '.join(words) or 'the default sweep'}\n")
    print(table(["six runs", "seconds"], [[how, spread(seconds, 1)] for how, seconds in taken.items()]))
    if options.save:
        append_line(options.save, {"words": words, "seconds": taken, "ratios": ratios})
    print(f"\nside by side / one at a time: {spread(ratios)} [{TARGET}: {verdict}]")


if __name__ == "__main__":
    main()
