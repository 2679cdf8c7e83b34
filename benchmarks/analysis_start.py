"""How long `python -m analysis table ablation` and `status` take on 200 runs, beside an earlier commit.

    python -m benchmarks.analysis_start --before 9db23ee               # three minutes on 2 cores
    python -m benchmarks.analysis_start --run runs/SOME_RUN            # a finished run to copy, instead of making one

One run of the default settings (with few training steps) is copied 200 times: ten cells of noise and alpha, twenty
seeds each, with a part of the verdicts drawn anew. Trees take turns, in both orders. Every command runs as a user runs
it, in a process of its own; seconds are processor time in user mode. "First time" is with an empty cache, "again" with
whatever that tree keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

from benchmarks._common import ROOT, both_orders, environment_of, machine, spread, table, tree_of

CELLS = [
    ("none", 0.0),
    *((noise, alpha) for noise in ("neftune", "symnoise", "gaussian") for alpha in (1.0, 5.0, 15.0)),
]
COMMANDS = (("table", "ablation"), ("status",))
LIMIT_S = 1.0
# The analysis keeps no file that was written in the last seconds.
_SETTLED_S = 4.0


def finished_run(folder: Path) -> Path:
    """A run of the default settings, but for few training steps."""
    words = ["noise=symnoise", "alpha=5", "train.max_steps=5", "tracking=disabled", f"output_dir={folder}"]
    command = [sys.executable, "-m", "harness", *words]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, stdout=subprocess.DEVNULL)
    (done,) = folder.glob("*/done")
    return done.parent


def copy_runs(run: Path, root: Path, count: int) -> None:
    """Copies of the run under other noises, alphas and seeds, without its weights."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    annotations = json.loads((run / "annotations.json").read_text())
    for number in range(count):
        noise, alpha = CELLS[number % len(CELLS)]
        folder = root / f"{noise}-a{alpha:g}-s{number // len(CELLS)}"
        shutil.copytree(run, folder, ignore=shutil.ignore_patterns("model", "checkpoints", ".lock"))
        settings = config | {"alpha": alpha, "seed": number // len(CELLS)}
        settings["noise"] = config["noise"] | {"name": noise}
        if noise == "none":
            settings["noise"] |= {"distribution": "none", "pair": "none"}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        (folder / "annotations.json").write_text(json.dumps(_other_verdicts(annotations, random.Random(number))))


def _other_verdicts(rows: list[dict[str, object]], chance: random.Random) -> list[dict[str, object]]:
    return [row | {"preference": float(chance.choice((1, 2)))} if chance.random() < 0.1 else row for row in rows]


def user_seconds(command: tuple[str, ...], source: Path, environment: dict[str, str]) -> float:
    """Processor time in user mode of one `python -m analysis`.

    Raises:
        RuntimeError: it failed.
    """
    words = [sys.executable, "-m", "analysis", *command, str(source)]
    process = subprocess.Popen(words, cwd=source.parent, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    return used.ru_utime


def measure(trees: dict[str, Path], source: Path, repeats: int, scratch: Path) -> list[list[str]]:
    """A row for each command and state of the cache: seconds by tree, and how often faster the last tree is."""
    places = {name: scratch / str(number) for number, name in enumerate(trees)}
    environments = {name: environment_of(tree, places[name]) for name, tree in trees.items()}
    for name in trees:  # compiles the code
        for command in COMMANDS:
            user_seconds(command, source, environments[name])
    rows = []
    for command in COMMANDS:
        first: dict[str, list[float]] = {name: [] for name in trees}
        again: dict[str, list[float]] = {name: [] for name in trees}
        for name in both_orders(list(trees), repeats):
            shutil.rmtree(places[name] / "cache", ignore_errors=True)
            first[name].append(user_seconds(command, source, environments[name]))
            again[name].append(user_seconds(command, source, environments[name]))
        rows += [_row(" ".join(command), "first time", first, False), _row(" ".join(command), "again", again, True)]
    return rows


def _row(command: str, state: str, seconds: dict[str, list[float]], is_limited: bool) -> list[str]:
    middle = [median(each) for each in seconds.values()]
    verdict = ("yes" if middle[-1] <= LIMIT_S else "NO") if is_limited else ""
    ratio = f"{middle[0] / middle[-1]:.1f}" if len(middle) > 1 else ""
    return [command, state, *(spread(each) for each in seconds.values()), ratio, verdict]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="a commit, or a folder that holds one, to compare with")
    parser.add_argument("--run", type=Path, help="a finished run to copy; default: one is made")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        copy_runs(options.run or finished_run(scratch / "one"), scratch / "runs", options.runs)
        time.sleep(_SETTLED_S)
        if options.before:
            with tree_of(options.before) as before:
                rows = measure({options.before: before, "now": ROOT}, scratch / "runs", options.repeats, scratch)
        else:
            rows = measure({"now": ROOT}, scratch / "runs", options.repeats, scratch)
    names = [options.before, "now"] if options.before else ["now"]
    print(f"{machine()}\n\n{options.runs} runs; seconds of processor time in user mode, median (lowest-highest)\n")
    print(table(["command", "cache", *names, "ratio", f"within {LIMIT_S:g} s"], rows))


if __name__ == "__main__":
    main()
