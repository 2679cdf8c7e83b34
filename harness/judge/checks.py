"""Checks of judging before training: the judge, its tables, its limits, the baseline's answers."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config import Config
from harness.context import Job
from harness.data import EvalItem, check_eval_set, load_eval_items
from harness.judge.judges.registry import check_judge, check_judge_model


def check(config: Config) -> None:
    """Check keys in the environment, packages, folders and files that the judge needs, and the instructions.

    Raises:
        ValueError: names what is missing.
    """
    check_judge(config.judge)
    _check_fit(config, check_eval_set(config))


def _check_fit(config: Config, items: Sequence[EvalItem]) -> None:
    """Whether there is something to compare with, or to check."""
    if config.judge.kind == "instructions":
        from harness.judge.judges.instructions import check_instructions

        check_instructions(items)
    elif config.judge.baseline == "reference" and any(not item.generator for item in items):
        checks = "judge=instructions checks the answers" if items[0].checks else "give a baseline's as eval_set.answers"
        raise ValueError(
            f"eval_set={config.eval_set.name}: has no answers to compare with, so judge={config.judge.name} has "
            f"nothing to judge; {checks}, and judge.baseline=none_same_seed or judge.baseline=FILE names other ones"
        )


def prepare(jobs: Sequence[Job]) -> list[str]:
    """Check baselines, tables and the judges' models, and the limits against everything that will be asked.

    Raises:
        ValueError: a baseline or table that lacks an instruction, a judge that is not available, or limits too small
        for
            all jobs together.

    Returns:
        Lines to show.
    """
    from harness.judge.ask import check_budgets

    pending = [job for job in jobs if "judge" in job.pending]
    for job in pending:
        _check_tables(job, jobs[: jobs.index(job) + 1])
    notes: list[str] = []
    for number, job in enumerate(pending):
        if job.config.judge not in [earlier.config.judge for earlier in pending[:number]]:
            notes += check_judge_model(job.config.judge)
    check_budgets([job.config for job in pending if "generate" in job.pending])
    return notes


def _check_tables(job: Job, done_by_then: Sequence[Job]) -> None:
    from harness.judge.baseline import answers_of_baseline, check_baseline

    items, judge = load_eval_items(job.config.eval_set), job.config.judge
    generators = check_baseline(job, items, done_by_then)
    if judge.difficulty is not None:
        from harness.judge.results import check_length_control

        check_length_control(judge, [item.text for item in items], generators, answers_of_baseline(job.config))
