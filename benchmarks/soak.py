"""Soak: a sweep of 200 tiny runs under random kills. All finish, none twice, none lost; `python -m benchmarks.soak`.

The same sweep is started again and again and killed at a random moment by SIGKILL, SIGTERM or Ctrl-C, until it ends by
itself: one time in five counted from its start (imports, planning), else from when it has taken up a run. Then every
run must be done, must have completed each stage once, must hold every step of its curve, and some are done once more
in peace: the same answers, the same weights.

`--minutes 4` stops after that time (by a kill, like any other) and the same command goes on: what happened so far is in
`FOLDER.jsonl` beside the sweep's folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from harness.record import RunFolder

STEPS = 8
SETTINGS = [
    *("model=tiny", "model.architecture.hidden_size=16", "model.architecture.layers=1", "model.architecture.heads=2"),
    *("model.architecture.intermediate_size=32", "dataset.size=32", "dataset.heldout=4", "eval_set.heldout=2"),
    *("eval_set.unseen=1", "generate.max_new_tokens=2", "train.batch_size=4", f"train.max_steps={STEPS}"),
    *("train.log_every=1", "train.checkpoint_every=2", "probe.examples=2", "tracking=disabled", "noise=symnoise"),
]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STAGES = ("train", "generate", "judge", "probe")
_FROM_THE_START = 0.2  # of the kills
_SECONDS_TO_LEAVE = 60.0


@dataclass(frozen=True)
class Attempt:
    """One start of the sweep: how it ended, in which stage, after how many seconds."""

    how: str
    stage: str
    seconds: float


def attempt(command: list[str], folder: Path, chance: random.Random, start: float, longest: float) -> Attempt:
    """Start the sweep and kill it at a moment between its start (`start` seconds) or its first run and `longest` later.

    Raises:
        RuntimeError: it ended by itself, but not well.
        subprocess.TimeoutExpired: it did not leave when it was asked to.
    """
    began, wall = time.monotonic(), time.time()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True)
    from_the_start = chance.random() < _FROM_THE_START
    after, how = chance.uniform(0, start if from_the_start else longest), chance.choice(SIGNALS)
    while not from_the_start and process.poll() is None and _newest_log(folder, wall) is None:
        time.sleep(0.02)
    try:
        message = process.communicate(timeout=after)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        process.communicate(timeout=_SECONDS_TO_LEAVE)
        return Attempt(how.name, _stage(folder, wall), time.monotonic() - began)
    if process.returncode:
        raise RuntimeError(message)
    return Attempt("end", "", time.monotonic() - began)


def _newest_log(folder: Path, since: float) -> Path | None:
    """The log.txt that was written to last, if any was after `since` (Unix seconds)."""
    logs = [(path.stat().st_mtime, path) for path in folder.glob("*/log.txt")]
    when, newest = max(logs, default=(0.0, None))
    return newest if when >= since else None


def _stage(folder: Path, since: float) -> str:
    """What the sweep was at: starting, a stage, or what lies between two stages or runs."""
    log = _newest_log(folder, since)
    if log is None:
        return "start"
    marks = re.findall(r"^\S+ \S+ (\w+): (starts|finished)", log.read_text(encoding="utf-8"), re.MULTILINE)
    return marks[-1][0] if marks and marks[-1][1] == "starts" else "between"


def check(folder: Path, runs: int) -> None:
    """Raises AssertionError: a run is missing, was done twice, or has a gap."""
    found = [RunFolder(path) for path in folder.iterdir() if (path / "log.txt").exists()]
    assert len(found) == runs, f"{len(found)} runs of {runs}"
    for run in found:
        log = (run / "log.txt").read_text()
        assert (run / "done").read_text() == "finished\n", run.path
        for stage in STAGES:
            # None where the kill fell between stages.json and the log.
            assert log.count(f"{stage}: finished") <= 1, (run.path, stage)
        assert set(run.stages()) == set(STAGES), run.path
        assert [row["step"] for row in run.metrics()] == list(range(1, STEPS + 1)), run.path
        left = [path.name for path in run.path.iterdir() if path.name.endswith(".tmp") or "checkpoint" in path.name]
        assert not left, (run.path, left)


def compare(folder: Path, peaceful: Path, seeds: list[int]) -> None:
    """Do the runs of some seeds once more in one undisturbed sweep; raises AssertionError: a result differs."""
    grid = f"seed={','.join(map(str, seeds))}"
    subprocess.run(_command(peaceful, grid), check=True, stderr=subprocess.DEVNULL)
    for path in peaceful.glob("*/done"):
        again, survivor = RunFolder(path.parent), RunFolder(folder / path.parent.name)
        assert (again / "model_outputs.json").read_text() == (survivor / "model_outputs.json").read_text(), path
        assert _losses(again) == _losses(survivor), path
        weights, expected = (load_file(run / "model" / "model.safetensors") for run in (survivor, again))
        assert all(weights[name].equal(expected[name]) for name in expected), path


def _losses(run: RunFolder) -> list[tuple[Any, ...]]:
    return [(row["step"], row["train/loss"], row["train/grad_norm"]) for row in run.metrics()]


def _command(folder: Path, grid: str) -> list[str]:
    return [sys.executable, "-m", "harness", "-m", *SETTINGS, grid, f"output_dir={folder}"]


def soak(folder: Path, runs: int, seed: int, start: float, longest: float, minutes: float) -> list[Attempt]:
    """Attempts until the sweep ends by itself or the time is over; those of earlier calls included."""
    record = folder.with_suffix(".jsonl")
    attempts = [Attempt(**json.loads(line)) for line in record.read_text().splitlines()] if record.exists() else []
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until and not (attempts and attempts[-1].how == "end"):
        chance = random.Random(f"{seed} {len(attempts)}")
        left = max(1.0, until - time.monotonic())
        attempts.append(attempt(_command(folder, f"seed=range({runs})"), folder, chance, start, min(longest, left)))
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(record, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(attempts[-1])) + "\n")
        done = len(list(folder.glob("*/done")))
        print(f"{attempts[-1].how:8} in {attempts[-1].stage:9} {done} of {runs} done", flush=True)
    return attempts


def table(attempts: list[Attempt]) -> str:
    """Kills by signal and stage, as Markdown."""
    kills = Counter((each.how, each.stage) for each in attempts if each.how != "end")
    stages = ("start", *STAGES, "between")
    lines = [f"| signal | {' | '.join(stages)} | all |", "|---" * (len(stages) + 2) + "|"]
    for how in (each.name for each in SIGNALS):
        counts: list[Any] = [kills[how, stage] for stage in stages]
        lines.append(f"| {how} | {' | '.join(map(str, counts))} | {sum(counts)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/soak/runs"), help="of the sweep")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--start", type=float, default=12.0, help="seconds that starting and planning take, at most")
    parser.add_argument("--longest", type=float, default=8.0, help="seconds from the first run to a kill, at most")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after these; the same command goes on")
    parser.add_argument("--again", type=int, default=5, help="runs to repeat undisturbed at the end")
    options = parser.parse_args()
    attempts = soak(options.folder, options.runs, options.seed, options.start, options.longest, options.minutes)
    seconds = sum(each.seconds for each in attempts)
    print(f"\n{len(attempts)} starts, {seconds:.0f} s\n\n{table(attempts)}\n")
    if attempts[-1].how != "end":
        sys.exit("not at its end yet: the same command goes on")
    check(options.folder, options.runs)
    seeds = random.Random(options.seed).sample(range(options.runs), options.again)
    compare(options.folder, options.folder.with_name("peaceful"), seeds)
    print(
        f"{options.runs} runs finished, none twice, none lost; {options.again} repeated undisturbed: equal bit by bit"
    )


if __name__ == "__main__":
    main()
