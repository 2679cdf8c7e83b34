"""The closing lines of a sweep: counts, time, a finding for each noise, what to type next.

The findings come from `python -m analysis finding`, run as a command: harness does not import analysis.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.context import Job
from harness.record import read_mapping
from harness.record.variants import kept

_BASELINE = "none"
# How `analysis finding` begins if there is nothing to compare.
_NOTHING = "nothing to compare"


def closing(jobs: Sequence[Job], arguments: Sequence[str], seconds: float | None = None) -> str:
    """The last lines of a sweep.

    Args:
        jobs: all jobs of the command, including those done before.
        arguments: what was typed after `python -m harness -m`.
        seconds: time of this command; None if nothing was left to run.
    """
    took = "" if seconds is None else f" in {duration(seconds)}"
    lines = [f"{_counted(jobs)}{took}"]
    if any("judge" in job.config.stages for job in jobs):
        lines += _findings(jobs, arguments)
    runs = shlex.quote(jobs[0].config.output_dir)
    page = shlex.quote(str(Path(jobs[0].config.output_dir) / "report.html"))
    return "\n".join(
        [
            *lines,
            f"table:    python -m analysis table ablation {runs}",
            f"figures:  python -m analysis figures {runs} -o figures",
            f"report:   python -m analysis report {runs} -o {page}",
        ]
    )


def duration(seconds: float) -> str:
    """ "45 s", "2 min 52 s", "3 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def without_noise(arguments: Sequence[str]) -> str:
    """The command that runs the same grid without noise, and so without alpha."""
    kept = [each for each in arguments if each.partition("=")[0] not in ("noise", "alpha")]
    sweep = ["-m"] if any("," in each.partition("=")[2] or "(" in each for each in kept) else []
    return shlex.join(["python", "-m", "harness", *sweep, f"noise={_BASELINE}", *kept])


def _counted(jobs: Sequence[Job]) -> str:
    """ "6 runs finished", "5 of 6 runs finished, 1 diverged"."""
    found = Counter(_status(job) for job in jobs)
    total = f"{len(jobs)} run{'s' if len(jobs) > 1 else ''}"
    others = "".join(f", {count} {status}" for status, count in sorted(found.items()) if status != "finished")
    return f"{total} finished" if not others else f"{found['finished']} of {total} finished{others}"


def _status(job: Job) -> str:
    folder = kept(job.folder, job.fingerprints, job.config.stages) or job.folder
    if not (folder / "done").exists():
        return "failed" if (folder / "failed").exists() else "not done"
    return str(read_mapping(folder / "summary.json").get("status", "not done"))


def _findings(jobs: Sequence[Job], arguments: Sequence[str]) -> list[str]:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "analysis", "finding", jobs[0].config.output_dir]
    found = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    lines = found.stdout.splitlines()
    noisy = any(job.config.noise.name != _BASELINE for job in jobs)
    if found.returncode == 0 and all(line.startswith(_NOTHING) for line in lines):
        return [f"no baseline to compare with; this adds it: {without_noise(arguments)}"] if noisy else []
    return lines or [line for line in found.stderr.splitlines() if line.startswith("error: ")]
