"""The six runs of the default sweep side by side, beside the same one at a time with all cores: a ratio of wall times.

    python -m benchmarks.side_by_side --rounds 3                   # a quarter of the data; six minutes on 2 cores
    python -m benchmarks.side_by_side --rounds 3 --full            # as the default sweep is; a quarter of an hour
    python -m benchmarks.side_by_side --full --before 9db23ee      # beside an earlier commit, too

`python -m harness -m noise=symnoise,neftune alpha=1,5,10` as it comes, and with `harness.workers=1` and a thread for
each core; with --before, the same command in an earlier state of the project, on today's `tiny_base` and as much data.
All start from an empty folder of runs and keep their tokens, which a first command makes. Ratios are taken within a
round, and the order is turned round after each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks._common import ROOT, append_line, both_orders, environment_of, machine, spread, table, tree_of

SWEEP = ("-m", "noise=symnoise,neftune", "alpha=1,5,10", "tracking=disabled")
QUARTER = ("dataset.size=600", "dataset.heldout=32", "eval_set.heldout=200", "eval_set.unseen=60")
# The default sweep's, said aloud for a commit that had others.
WHOLE = ("dataset.size=2400", "dataset.heldout=128", "eval_set.heldout=810", "eval_set.unseen=240", "train.lr=0.0005")
MODEL = ("model=local", f"model.path={ROOT / 'harness/assets/tiny_base'}")
SIDE_BY_SIDE, ONE_BY_ONE = "side by side", "one at a time"
TARGET = 0.55


@dataclass(frozen=True)
class Contender:
    """A way to run the six.

    Attributes:
        tree: the state of the project.
        scratch: a folder for its tokens, compiled code and runs.
        words: settings beside the sweep's.
        threads: 0: as the command chooses.
    """

    tree: Path
    scratch: Path
    words: tuple[str, ...] = ()
    threads: int = 0

    def seconds(self, *more: str) -> float:
        """Wall time of the sweep, with more settings.

        Raises:
            RuntimeError: it failed.
        """
        runs = self.scratch / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        environment = environment_of(self.tree, self.scratch)
        environment.pop("OMP_NUM_THREADS", None)
        if self.threads:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        command = [sys.executable, "-m", "harness", *SWEEP, *self.words, *more, f"output_dir={runs}"]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=self.scratch, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        finished = len(list(runs.glob("*/done")))
        if done.returncode or finished != 6:
            raise RuntimeError(f"{self.tree}: {finished} of 6 runs, status {done.returncode}:\n{done.stderr[-2000:]}")
        return seconds


def contenders(words: tuple[str, ...], before: str | None, tree: Path | None, scratch: Path) -> dict[str, Contender]:
    """Both ways of today, sharing their tokens, and that of an earlier commit where one is named."""
    (scratch / "now").mkdir()
    cores = len(os.sched_getaffinity(0))
    found = {
        SIDE_BY_SIDE: Contender(ROOT, scratch / "now", words),
        ONE_BY_ONE: Contender(ROOT, scratch / "now", (*words, "harness.workers=1"), cores),
    }
    if before and tree:
        (scratch / "before").mkdir()
        found[f"at {before}"] = Contender(tree, scratch / "before", (*words, *MODEL))
    return found


def measure(ways: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after a short command that compiles code and makes the tokens."""
    for name in (SIDE_BY_SIDE, *list(ways)[2:]):
        ways[name].seconds("train.max_steps=1", "stages=[train]")
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for name in both_orders(list(ways), rounds):
        taken[name].append(ways[name].seconds())
        print(f"{name}: {taken[name][-1]:.1f} s", file=sys.stderr, flush=True)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="all data of the default sweep, not a quarter")
    parser.add_argument("--before", help="a commit, or a folder that holds one, to compare with, too")
    parser.add_argument("--words", nargs="*", default=[], metavar="KEY=VALUE", help="more settings of all")
    parser.add_argument("--save", type=Path, help="a file of JSON lines to which the measurement is added")
    options = parser.parse_args()
    words = (*(WHOLE if options.full else QUARTER), *options.words)
    with tempfile.TemporaryDirectory() as folder, tree_of(options.before or str(ROOT)) as tree:
        taken = measure(contenders(words, options.before, tree, Path(folder)), options.rounds)
    print(f"{machine()}\n\n{options.rounds} rounds, {' '.join(words)}\n")
    ours = taken[SIDE_BY_SIDE]
    ratios = {name: [a / b for a, b in zip(ours, theirs, strict=True)] for name, theirs in taken.items()}
    rows = [[name, spread(seconds, 1), spread(ratios[name])] for name, seconds in taken.items()]
    print(table(["six runs", "seconds", f"side by side takes, of it [{TARGET}]"], rows))
    if options.save:
        append_line(options.save, {"words": words, "seconds": taken, "ratios": ratios[ONE_BY_ONE]})


if __name__ == "__main__":
    main()
