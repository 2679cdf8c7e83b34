"""The last lines of a sweep: counts, time, findings or the command that makes some possible, what to type next."""

from __future__ import annotations

import pytest
from support.run_folders import config_of, write_run

from harness.pipeline.closing import closing, duration, without_noise
from harness.pipeline.plan import job_of
from harness.record import write_json, write_text


def finished(compose, root, *settings, status="finished"):
    """A job of the real settings, marked as done, and a folder beside it for the analysis to read."""
    job = job_of(compose(*settings, f"output_dir={root}"))
    job.folder.path.mkdir(parents=True)
    write_json(job.folder / "summary.json", {"status": status})
    write_text(job.folder / "done", status)
    return job


@pytest.mark.parametrize(("seconds", "text"), [(44.6, "45 s"), (172, "2 min 52 s"), (11100, "3 h 5 min")])
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


def test_the_command_that_adds_the_baseline_keeps_the_rest():
    assert without_noise(["noise=symnoise,neftune", "alpha=1,5,10"]) == "python -m harness noise=none"
    grid = ["noise=symnoise", "seed=range(3)", "train.epochs=2"]
    assert without_noise(grid) == "python -m harness -m noise=none 'seed=range(3)' train.epochs=2"


def test_without_a_baseline_it_says_what_adds_one(compose, tmp_path):
    typed = ["noise=neftune,symnoise", "alpha=5"]
    jobs = [finished(compose, tmp_path / "runs", f"noise={name}", "alpha=5") for name in ("neftune", "symnoise")]
    write_run(tmp_path / "runs", config_of("neftune", 5))
    lines = closing(jobs, typed, 70.0).splitlines()
    assert lines[0] == "2 runs finished in 1 min 10 s"
    assert lines[1] == "no baseline to compare with; this adds it: python -m harness noise=none"
    assert [line.split(":")[0] for line in lines[2:]] == ["table", "figures", "report"]


def test_with_a_baseline_each_noise_has_a_sentence(compose, tmp_path):
    job = finished(compose, tmp_path / "runs", "noise=neftune", "alpha=5", status="diverged")
    for seed in range(3):
        write_run(tmp_path / "runs", config_of("none", 0, seed))
        write_run(tmp_path / "runs", config_of("neftune", 5, seed), preferences=(1.0, 1.5, 1.0, 2.0))
    lines = closing([job], ["noise=neftune", "seed=range(3)"]).splitlines()
    assert lines[0] == "0 of 1 run finished, 1 diverged"
    assert lines[1].startswith("neftune: ")
    assert "baseline" not in lines[1]
