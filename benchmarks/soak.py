"""Soak: 200 tiny runs under random kills. All finish, none twice, none lost; `python -m benchmarks.soak`.

The same sweep is started again and again and killed after a random time by SIGKILL, SIGTERM or Ctrl-C, until it ends by
itself. Then every run must be done, must have completed each stage once, and must hold every step of its curve.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.record import RunFolder

STEPS = 4
SETTINGS = [
    *("model=tiny", "model.architecture.hidden_size=16", "model.architecture.layers=1", "model.architecture.heads=2"),
    *("model.architecture.intermediate_size=32", "dataset.size=16", "dataset.heldout=4", "eval_set.heldout=2"),
    *("eval_set.unseen=1", "generate.max_new_tokens=2", "train.batch_size=4", f"train.max_steps={STEPS}"),
    *("train.log_every=1", "train.checkpoint_every=1", "tracking=disabled", "noise=symnoise"),
]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def soak(runs: int, seed: int, shortest: float, longest: float, folder: Path) -> dict[str, float]:
    """Run the sweep to its end under kills; the counts of what happened.

    Args:
        shortest, longest: seconds from start to kill, drawn uniformly.
    """
    chance, kills, started = random.Random(seed), dict.fromkeys(SIGNALS, 0), time.monotonic()
    command = [sys.executable, "-m", "harness", "-m", *SETTINGS, f"seed=range({runs})", f"output_dir={folder}"]
    while True:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        try:
            process.wait(chance.uniform(shortest, longest))
        except subprocess.TimeoutExpired:
            how = chance.choice(SIGNALS)
            kills[how] += 1
            process.send_signal(how)
            process.wait()
        else:
            if process.returncode == 0:
                break
        done = len(list(folder.glob("*/done")))
        print(f"{time.monotonic() - started:6.0f} s  {sum(kills.values())} kills, {done} of {runs} done", flush=True)
    check(folder, runs)
    return {"runs": runs, "seconds": time.monotonic() - started} | {how.name: n for how, n in kills.items()}


def check(folder: Path, runs: int) -> None:
    """Raises AssertionError: a run is missing, was done twice, or has a gap."""
    found = [RunFolder(path) for path in folder.iterdir() if (path / "log.txt").exists()]
    assert len(found) == runs, f"{len(found)} runs of {runs}"
    for run in found:
        log = (run / "log.txt").read_text()
        assert (run / "done").read_text() == "finished\n", run.path
        for stage in ("train", "generate", "judge"):
            # None where the kill fell between stages.json and the log.
            assert log.count(f"{stage}: finished") <= 1, (run.path, stage)
        assert [row["step"] for row in run.metrics()] == list(range(1, STEPS + 1)), run.path
        assert not list(run.path.glob("checkpoints*")), run.path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shortest", type=float, default=3.0)
    parser.add_argument("--longest", type=float, default=25.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(soak(arguments.runs, arguments.seed, arguments.shortest, arguments.longest, Path(folder)))


if __name__ == "__main__":
    main()
