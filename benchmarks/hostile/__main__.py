"""python -m benchmarks.hostile [--all] [--only KIND ...] [--out FILE.md]

Gives hostile input to the real commands and counts the outcomes: refused in one line, handled (done, or done with
what can be read), a traceback, or a hang. By default a sample of some 600 cases, which takes a few minutes on one core;
--all has some 2,500. Needs no network and no GPU. Each case runs in its own process, forked from one that has imported
what the commands import. Exit status 1 if any case ended in a traceback or a hang; those are shown.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.hostile import data_files, models, replies, run_folders, settings, workplace
from benchmarks.hostile.attempt import HANDLED, HANG, ONE_LINE, OUTCOMES, TRACEBACK, Case, Ending, attempt

KINDS: dict[str, Callable[[workplace.Workplace, bool], Iterator[Case]]] = {
    "run_folders": run_folders.cases,
    "data_files": data_files.cases,
    "settings": settings.cases,
    "models": models.cases,
    "replies": replies.cases,
}
_LIMIT = 60.0  # seconds


def run(kinds: Sequence[str], quick: bool, show: Callable[[Ending], None] = lambda _: None) -> list[Ending]:
    """Every case of these kinds, one after the other.

    Args:
        kinds: names in KINDS.
        quick: a sample of each kind.
        show: called with each ending.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NOISE_HARNESS_CACHE"] = str(Path(folder) / "cache")
        place = workplace.prepare(Path(folder))
        _import()
        endings = []
        for kind in kinds:
            for case in KINDS[kind](place, quick):
                endings.append(attempt(case, _LIMIT))
                show(endings[-1])
        return endings


def summary(endings: Sequence[Ending]) -> str:
    """A Markdown table: a row a kind, a column an outcome."""
    from benchmarks._common import table

    counts = Counter((ending.case.kind, ending.outcome) for ending in endings)
    kinds = sorted({ending.case.kind for ending in endings})
    rows = [(kind, *(counts[kind, each] for each in OUTCOMES)) for kind in kinds]
    total = ("all", *(sum(counts[kind, each] for kind in kinds) for each in OUTCOMES))
    return table(("input: command", *OUTCOMES), [*rows, total])


def _import() -> None:
    """What the commands import, once for all forks; nothing that starts a thread."""
    import pandas
    import torch
    import transformers

    import analysis.__main__
    import analysis.commands.compare
    import analysis.commands.figures
    import analysis.commands.finding
    import analysis.commands.report
    import analysis.commands.status
    import analysis.commands.table
    import harness.chat.__main__
    import harness.export.__main__
    import harness.judge.__main__
    import harness.pipeline.runner
    import harness.train.stage

    del pandas, transformers, analysis, harness
    torch.set_num_threads(1)


def _show(ending: Ending) -> None:
    if ending.outcome in (TRACEBACK, HANG):
        last = "\n    ".join(ending.said.strip().splitlines()[-4:])
        words = " ".join(ending.case.arguments)[-200:]
        print(f"{ending.outcome}: {ending.case.kind}: {ending.case.name}: ... {words}\n    {last}", flush=True)


def main() -> int:
    """Entry point; exit status 1 if an input was neither handled nor refused in a line."""
    parser = argparse.ArgumentParser(
        "benchmarks.hostile", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="every case instead of a sample of each kind")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--out", type=Path, help="a file for the table and every case with what was said")
    arguments = parser.parse_args()
    started = time.monotonic()
    endings = run(arguments.only, not arguments.all, _show)
    text = f"{summary(endings)}\n\n{len(endings)} cases in {time.monotonic() - started:.0f} s\n"
    print(text)
    if arguments.out:
        from benchmarks._common import machine

        cases = "\n".join(_line(ending) for ending in endings)
        arguments.out.write_text(f"{machine()}\n\n{text}\n{cases}\n", encoding="utf-8")
    return int(any(ending.outcome not in (HANDLED, ONE_LINE) for ending in endings))


def _line(ending: Ending) -> str:
    said = [line for line in ending.said.splitlines() if "error: " in line] or [ending.outcome]
    return f"- {ending.case.kind}; {ending.case.name}; {ending.seconds:.1f} s: {said[-1][:300]!r}"


if __name__ == "__main__":
    sys.exit(main())
