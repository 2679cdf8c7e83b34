"""How long it takes to read many runs from disk and to make tables of them.

    python -m benchmarks.loading                       # 200 runs, the project's limit is 10 seconds to all frames
    python -m benchmarks.loading --runs 500
    python -m benchmarks.loading --source logs         # the same runs from offline W&B logs
    python -m benchmarks.loading --source api          # and from a W&B server on this machine: first and second time

The runs are synthetic and as large as real ones: every key that training logs at every step, and one answer and one
verdict for each of AlpacaEval's 805 instructions. The folders were just written, so the files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from analysis.commands.status import status
from analysis.sources.runs import Runs, load_runs
from analysis.tables.build import build
from analysis.tables.layouts import LAYOUTS
from benchmarks._common import machine, table
from tests.support.run_folders import config_of, write_run
from tests.support.wandb_logs import logged_tables, path_of, rows_of, summary_of, write_log
from tests.support.wandb_server import StoredRun, wandb_server

LOGGED = (
    *("train/loss", "train/penalty", "train/grad_norm", "train/learning_rate", "train/documents", "train/rows"),
    *("train/tokens", "train/flops", "train/seconds", "train/tokens_per_second", "train/unique_examples"),
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
    parser.add_argument("--source", choices=("disk", "logs", "api"), default="disk")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_runs(root, arguments.runs, arguments.steps, arguments.instructions)
        megabytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6
        seconds = _MEASURES[arguments.source](root)
    print(machine())
    print(
        f"\n{arguments.runs} runs, {arguments.steps} steps, {arguments.instructions} instructions: {megabytes:.0f} MB\n"
    )
    print(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB\n")
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
        write_run(root, config, {"eval/loss": generator.random()}, preferences, lengths, history)


def measure_logs(root: Path) -> dict[str, tuple[float, float]]:
    """The runs as `tracking=offline` leaves them; only the logs are measured."""
    logs = root / "logs"
    for folder in [path for path in root.iterdir() if path.is_dir()]:
        write_log(folder, logs)
    return measure(logs)


def measure_api(root: Path) -> dict[str, tuple[float, float]]:
    """The runs on a server in another process's place: a thread of this one, so processor seconds are of both."""
    with wandb_server() as server, tempfile.TemporaryDirectory() as cache:
        for folder in root.iterdir():
            server.runs["study", folder.name] = stored_run(folder)
        os.environ |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": server.api_key, "NOISE_HARNESS_CACHE": cache}
        first = measure("team/study")
        requests = len(server.operations)
        again = measure("team/study")
        print(f"{requests} requests, then {len(server.operations) - requests}")
    return {f"{what}, first": seconds for what, seconds in first.items()} | again


def stored_run(folder: Path) -> StoredRun:
    """A finished run as the server keeps it."""
    run = StoredRun(folder.name, "study", "team", group="sweep", state="finished", heartbeat=1e9)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    run.config = {key: {"value": value, "desc": None} for key, value in settings.items()}
    run.history = [{**row, "_step": row.pop("step")} for row in rows_of(folder)]
    run.summary = summary_of(folder)
    for name, rows in logged_tables(folder).items():
        table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        run.files[path_of(name)] = json.dumps(table).encode()
    return run


def measure(root: Path | str) -> dict[str, tuple[float, float]]:
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


def _loaded(root: Path | str) -> Runs:
    runs = load_runs(root)
    assert len(runs.runs) == len(runs.configs)
    return runs


def _timed(seconds: dict[str, tuple[float, float]], what: str, function: Callable[[], Any]) -> Any:
    start = time.perf_counter(), time.process_time()
    result = function()
    seconds[what] = time.perf_counter() - start[0], time.process_time() - start[1]
    return result


_MEASURES = {"disk": measure, "logs": measure_logs, "api": measure_api}

if __name__ == "__main__":
    main()
