"""What a sweep costs besides training: start, planning, and every run after the first in the same process.

    python -m benchmarks.sweep                         # five minutes on 2 cores, most of it planning 1,000 jobs twice
    python -m benchmarks.sweep --model smollm2_135m_pip --data alpaca.json --only loading

Commands run as a user runs them, in a folder of their own; files are in the page cache after the first repeat. A run's
cost beyond training is the time from the end of the run before it to its own end, less the training loop.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._common import ROOT, composed, machine, spread, table

Row = list[str]
THOUSAND = ("noise=neftune,symnoise,gaussian,bernoulli", "alpha=1,2,5,10,15", "seed=range(50)")
TINY_RUNS = (
    *("-m", "noise=neftune,symnoise", "seed=0,1", "train.max_steps=5", "dataset.size=200", "dataset.heldout=16"),
    *("eval_set.heldout=8", "eval_set.unseen=0", "generate.max_new_tokens=32"),
)


def command(arguments: Sequence[str], folder: Path) -> float:
    """Seconds of `python -m harness ARGUMENTS`.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"python -m harness {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return seconds


def starting(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """--help and dry runs."""
    rows = []
    for label, limit, words in (
        ("--help", 0.7, ["--help"]),
        ("dry run of the default sweep", 3.0, ["-m", "noise=symnoise,neftune", "alpha=1,5,10", "harness.dry_run=true"]),
        ("planning 1,000 jobs", 60.0, ["-m", *THOUSAND, "harness.dry_run=true"]),
    ):
        repeats = 2 if limit > 10 else arguments.repeats
        seconds = [command(words, folder) for _ in range(repeats + 1)][1:]
        rows.append(_row(label, seconds, limit))
    return rows


def loading(arguments: argparse.Namespace, _folder: Path) -> list[Row]:
    """Model and tokenised data of a job, the first in a process and the later ones."""
    from harness.data.documents import load_documents
    from harness.models.load import load_model

    overrides = [f"model={arguments.model}"]
    if arguments.data:
        overrides += ["dataset=alpaca", f"dataset.path='{arguments.data}'"]
    config = composed(*overrides)

    def load() -> None:
        load_documents(config.dataset, config.model)
        load_model(config.model, config.seed)

    seconds = [_timed(load) for _ in range(arguments.repeats + 1)]
    return [
        _row(f"model={arguments.model} and its data, first job", seconds[:1], None),
        _row(f"model={arguments.model} and its data, later jobs", seconds[1:], 0.5),
    ]


def tiny_runs(_arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """The second and later runs of a sweep beyond their training."""
    start = time.time()
    total = command(TINY_RUNS, folder)
    runs = sorted((path for path in (folder / "runs").iterdir() if (path / "done").exists()), key=_ended)
    loops = [_training_seconds(run) for run in runs]
    ends = [_ended(run) for run in runs]
    beyond = [end - before - loop for before, end, loop in zip([start, *ends], ends, loops, strict=False)]
    return [
        _row("first tiny run beyond its training, imports and planning included", beyond[:1], None),
        _row("second and later tiny runs beyond their training", beyond[1:], 3.0),
        _row(f"{len(runs)} tiny runs in all, training included", [total], None),
    ]


def _ended(run: Path) -> float:
    return (run / "done").stat().st_mtime


def _training_seconds(run: Path) -> float:
    last = (run / "metrics.jsonl").read_text().splitlines()[-1]
    return float(json.loads(last)["train/seconds"])


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _row(label: str, seconds: Sequence[float], limit: float | None) -> Row:
    verdict = "" if limit is None else "yes" if median(seconds) <= limit else "NO"
    return [label, spread(seconds), "" if limit is None else f"{limit:g}", verdict]


PARTS = {"starting": starting, "loading": loading, "tiny_runs": tiny_runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--model", default="tiny_base", help="a choice of conf/model, for the part loading")
    parser.add_argument("--data", help="a file of Alpaca rows, for the part loading; default: the builtin tasks")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rows: list[Row] = []
    for part in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            rows += PARTS[part](arguments, Path(folder))
    print(f"{machine()}\n")
    print(table(["what", "seconds", "limit", "within"], rows))


if __name__ == "__main__":
    main()
