"""Memory of a sweep's processes from run to run: flat, or growing? The command, its fork server and each worker.

    python -m benchmarks.memory --runs 200 --workers 2 --out build/memory.csv     # ten minutes on 2 cores
    python -m benchmarks.memory --runs 200 --workers 1 --out build/memory-1.csv   # all runs in one process

Tiny runs with every stage (those of benchmarks/soak.py), each seed once. Whenever a run is done, the proportional set
size (PSS) of each process is read: workers forked from a server share the pages of what it imported, and PSS counts a
page that n processes share as 1/n in each, so that the sum is what the sweep takes. Growth is the slope of a straight
line through the second half, when libraries are loaded and caches filled.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._common import ROOT, machine, table
from benchmarks.soak import SETTINGS

COMMAND, SERVER, TOTAL = "command", "server", "all"
FORKED = b"multiprocessing.forkserver"  # in the command line of a server and of its workers
_POLL_S = 0.1
# Shares of the sweep whose memory the table shows.
_SHOWN = (0.05, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Sample:
    """PSS of one process when so many runs were done."""

    done: int
    process: str
    mb: float


def measure(runs: int, workers: int, folder: Path) -> list[Sample]:
    """Do the sweep and sample its processes whenever a run is done.

    Raises:
        RuntimeError: the sweep failed.
    """
    words = ["-m", *SETTINGS, f"seed=range({runs})", f"harness.workers={workers}", f"output_dir={folder / 'runs'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    names: dict[int, str] = {}
    samples: list[Sample] = []
    with open(folder / "log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen([sys.executable, "-m", "harness", *words], stdout=log, stderr=log, env=environment)
        names[process.pid], done = COMMAND, 0
        while process.poll() is None:
            names |= _others(process.pid, names)
            finished = len(list((folder / "runs").glob("*/done")))
            if finished > done:
                done = finished
                found = [Sample(done, name, mb) for pid, name in names.items() if (mb := _pss_mb(pid))]
                samples += [*found, Sample(done, TOTAL, sum(each.mb for each in found))]
            time.sleep(_POLL_S)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"the sweep ended with {process.returncode}:\n{log.read()[-2000:]}")
    return samples


def _others(command: int, names: Mapping[int, str]) -> dict[int, str]:
    """Names of processes of the command that have none yet: its server, and workers, forked from that or spawned."""
    servers = _children(command, FORKED)
    forked = [pid for each in servers for pid in _children(each, FORKED)]
    workers = [*_children(command, b"multiprocessing.spawn"), *forked]
    number = sum(name.startswith("worker") for name in names.values())
    fresh = [pid for pid in workers if pid not in names]
    return dict.fromkeys(servers, SERVER) | {pid: f"worker {number + at}" for at, pid in enumerate(fresh, start=1)}


def _children(parent: int, module: bytes) -> list[int]:
    """Processes whose command line has this module: not the tracker that multiprocessing starts beside them."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(pid) for pid in children if module in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except OSError:  # it has just ended
        return []


def _pss_mb(pid: int) -> float:
    """0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def report(samples: list[Sample]) -> str:
    """A row for each process: its memory along the sweep, and MB a run over the second half."""
    runs = max(sample.done for sample in samples)
    rows = []
    for name in dict.fromkeys(sample.process for sample in samples):
        own = [sample for sample in samples if sample.process == name]
        shown = [min(own, key=lambda sample: abs(sample.done - share * runs)) for share in _SHOWN]
        rows.append([name, *(f"{sample.mb:.0f}" for sample in shown), f"{growth(own, runs):+.2f}"])
    header = ["process", *(f"MB after {max(1, round(share * runs))}" for share in _SHOWN)]
    return table([*header, "MB a run, second half"], rows)


def growth(own: list[Sample], runs: int) -> float:
    """MB that one process gains with each run of the sweep, over the second half."""
    later = [sample for sample in own if 2 * sample.done >= runs]
    if len(later) < 2:
        return float("nan")
    return float(np.polyfit([sample.done for sample in later], [sample.mb for sample in later], 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a CSV for every sample")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = measure(options.runs, options.workers, Path(folder))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with open(options.out, "w", encoding="utf-8", newline="") as file:
            file.write(f"# {machine()}; {options.workers} workers; PSS\n")
            csv.writer(file).writerows(
                [("done", "process", "mb"), *((each.done, each.process, f"{each.mb:.1f}") for each in samples)]
            )
    print(
        f"{machine()}\n\n{options.runs} tiny runs, harness.workers={options.workers}; PSS: shared pages are divided\n"
    )
    print(report(samples))


if __name__ == "__main__":
    main()
