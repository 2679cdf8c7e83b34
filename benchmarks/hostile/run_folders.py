"""Damaged run folders, given to every command that reads one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.hostile.attempt import Case
from benchmarks.hostile.contents import DAMAGES
from benchmarks.hostile.workplace import Workplace

_READ_BY_ANALYSIS = (
    *("config.yaml", "stages.json", "summary.json", "metrics.jsonl", "model_outputs.json", "annotations.json"),
    *("probes.json", "provenance.json", "done", "failed"),
)
_ANALYSIS = {
    "status": ("status", "runs"),
    "table": ("table", "ablation", "runs"),
    "claims": ("table", "claims", "runs"),
    "finding": ("finding", "runs"),
    "compare": ("compare", "DAMAGED", "WHOLE", "--source", "runs"),
    "figures": ("figures", "runs", "-o", "drawn", "--only", "loss"),
    "report": ("report", "runs", "-o", "report.html"),
}
_SLOW = ("figures", "report")
_SLOW_NEED = ("a list", "a list of null", "deep object", "torn", "a pipe", "not UTF-8", "half a character")


def cases(place: Workplace, quick: bool) -> Iterator[Case]:
    """Each file of a run damaged in each way, next to a whole run, with each command that reads it."""
    for file in _READ_BY_ANALYSIS:
        for name in DAMAGES:
            if quick and name not in _SLOW_NEED:
                continue
            folder = _damaged(place, file, name)
            for command, arguments in _ANALYSIS.items():
                if command not in _SLOW or (name in _SLOW_NEED and not quick):
                    words = [place.run.name if word == "DAMAGED" else word for word in arguments]
                    words = [place.other.name if word == "WHOLE" else word for word in words]
                    yield Case(f"run folder: analysis {command}", f"{file}: {name}", ("analysis", *words), folder)
            yield from _harness(place, folder, file, name)
            shutil.rmtree(folder)


def _damaged(place: Workplace, file: str, name: str) -> Path:
    folder = place.root / "case"
    shutil.copytree(place.run, folder / "runs" / place.run.name)
    shutil.copytree(place.other, folder / "runs" / place.other.name)
    target = folder / "runs" / place.run.name / file
    if file == "failed":  # it stands in the place of "done"
        (target.parent / "done").unlink(missing_ok=True)
        target.write_text('{"type": "ValueError", "message": "x"}', encoding="utf-8")
    DAMAGES[name](target)
    return folder


_BY_HARNESS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "harness run_id=RUN": (("config.yaml", "stages.json", "summary.json", "provenance.json"), ()),
    "the same command again": (("config.yaml", "stages.json", "summary.json", "provenance.json", "done"), ()),
    "harness.export": (("config.yaml", "summary.json", "provenance.json", "done"), ("RUN", "exported")),
    "harness.chat": (("config.yaml",), ("RUN",)),
    "harness.judge score": (("annotations.json",), ("score", "RUN/annotations.json")),
    "harness.judge leaderboard": (("annotations.json",), ("leaderboard", "RUN", "OTHER")),
    "a baseline": (("config.yaml", "stages.json", "model_outputs.json"), ()),
}


def _harness(place: Workplace, folder: Path, file: str, name: str) -> Iterator[Case]:
    run = f"runs/{place.run.name}"
    for command, (files, arguments) in _BY_HARNESS.items():
        if file not in files:
            continue
        given = {"RUN": run, "OTHER": f"runs/{place.other.name}"}
        words: list[str] = [word.replace(key, path) for word in arguments for key, path in given.items() if key in word]
        if command == "harness run_id=RUN":
            words = ["harness", f"run_id={run}", "stages=[judge]", "judge=similarity", "harness.dry_run=true"]
        elif command == "the same command again":
            words = ["harness", *place.settings, "output_dir=runs"]
        elif command == "a baseline":
            other = [word for word in place.settings if not word.startswith("noise=")]
            baseline = "none_same_seed" if file == "config.yaml" else place.run.name
            words = ["harness", *other, "noise=gaussian", "output_dir=runs", f"judge.baseline={baseline}"]
            words += ["harness.dry_run=true"] if file == "config.yaml" else []
        else:
            words = [command.split()[0], *words]
        yield Case(f"run folder: {command}", f"{file}: {name}", words, folder)
