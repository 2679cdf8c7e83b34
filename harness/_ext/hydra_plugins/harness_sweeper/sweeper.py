"""A grid sweeper that checks every job first, drops duplicates, skips finished runs and survives failing ones."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

# The grid expansion is Hydra's own (an internal import: tests/pipeline/test_cli.py covers it).
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.harness_sweeper.composer import Composer

# A plain dict: Hydra runs this file outside sys.modules, where a dataclass with postponed annotations fails.
# `params` holds sweeps kept in a file (experiments), e.g. {alpha: "1,5,10"}; the command line wins.
_CONFIG = {"_target_": "hydra_plugins.harness_sweeper.sweeper.HarnessSweeper", "params": None}
ConfigStore.instance().store(group="hydra/sweeper", name="harness", node=_CONFIG, provider="noise-harness")

_BUSY_SECONDS = 5.0


class HarnessSweeper(BasicSweeper):
    """Compose all, check all, then launch what is left; DESIGN decision 2."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the grid.

        Raises:
            ValueError: a job's settings or files are bad; nothing was started.
            RunFailed: the sweep ended and at least one run failed.
        """
        from harness.pipeline.capacity import Capacity, capacity_for
        from harness.pipeline.closing import closing
        from harness.pipeline.group import sweep_group
        from harness.pipeline.here import check_this_machine
        from harness.pipeline.plan import config_from, make_plan
        from harness.pipeline.side_by_side import prepare_workers
        from harness.pipeline.stages import prepare
        from harness.system.waiting import waiting

        assert self.hydra_context is not None
        jobs = self._expand(arguments)
        composer = Composer(self.hydra_context.config_loader, self.config)
        plan = make_plan((config_from(composer.compose(job), job) for job in jobs), jobs)
        if not plan.announce():
            if plan.is_done:
                print(closing(plan.jobs, arguments), file=sys.stderr)
            return []
        started = time.monotonic()
        # Other launchers start the runs on machines not known here.
        is_here = type(self.launcher).__name__ == "BasicLauncher"
        warnings = check_this_machine(plan.to_run) if is_here else []
        capacity = capacity_for([job.config for job in plan.to_run]) if self._is_plain() else Capacity()
        workers = prepare_workers(plan.to_run, capacity) if capacity.runs > 1 else None
        with waiting("reading the data, tokenizing"):
            lines = prepare(plan.to_run)
        print(*warnings, *lines, sep="\n", file=sys.stderr)
        group = sweep_group(plan.jobs)
        launched = [
            [*job.overrides, *_bookkeeping(job, f"{number}/{len(plan.to_run)}", group)]
            for number, job in enumerate(plan.to_run, start=1)
        ]
        results = self._launch(launched, plan.to_run, capacity, workers)
        print(closing(plan.jobs, arguments, time.monotonic() - started), file=sys.stderr)
        _raise_if_failed([job.run_id for job in plan.to_run], results, plan.to_run[0].config.output_dir)
        return [results]

    def _launch(
        self, launched: list[list[str]], jobs: Sequence[Any], capacity: Any, workers: Any | None
    ) -> list[JobReturn]:
        """Run all jobs; those that another sweep is working on are retried until it has finished them.

        Args:
            workers: where they come from, if runs go side by side.

        Raises:
            RunFailed: the launcher itself broke off (a process or node was killed).
        """
        from harness.pipeline.plan import RunFailed, pending_stages
        from harness.pipeline.side_by_side import run_side_by_side
        from harness.system.progress import LINES
        from harness.system.signals import Interrupted

        assert self.launcher is not None
        if workers is not None:
            print(capacity.describe(), file=sys.stderr)
        elif type(self.launcher).__name__ != "BasicLauncher":
            os.environ[LINES] = "1"

        def launch(numbers: Sequence[int]) -> Sequence[JobReturn]:
            if workers is not None:
                noted = [_noted(jobs[number].config, launched[number]) for number in numbers]
                return [_returned(outcome) for outcome in run_side_by_side(noted, capacity, workers)]
            assert self.launcher is not None
            return self.launcher.launch([launched[number] for number in numbers], initial_job_idx=0)

        results: dict[int, JobReturn] = {}
        waiting = list(range(len(launched)))
        while waiting:
            try:
                batch = launch(waiting)
            except KeyboardInterrupt as stop:
                done = sum(not pending_stages(job) for job in jobs)
                raise Interrupted(f"{str(stop) or 'interrupted'}; {done} of {len(jobs)} runs are done") from None
            except Exception as error:
                done = sum(not pending_stages(job) for job in jobs)
                state = f"{done} of {len(jobs)} runs are done; repeat the command to continue"
                raise RunFailed(f"the launcher stopped, {state} ({type(error).__name__}: {error})") from error
            results |= dict(zip(waiting, batch, strict=True))
            waiting = [number for number in waiting if _is_busy(results[number])]
            if waiting:
                print(f"waiting for {len(waiting)} runs that another process is working on", file=sys.stderr)
                time.sleep(_BUSY_SECONDS)
        return [results[number] for number in range(len(launched))]

    def _is_plain(self) -> bool:
        """No launcher was chosen, and nothing hooks into Hydra's jobs: the runs need not go through Hydra."""
        hydra = self.config.hydra if self.config is not None else {}
        hooked = hydra.get("callbacks") or (hydra.get("job") or {}).get("env_set")
        return type(self.launcher).__name__ == "BasicLauncher" and not hooked

    def _expand(self, arguments: list[str]) -> list[list[str]]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        for each in overrides:
            if each.is_sweep_override() and not any(True for _ in each.sweep_string_iterator()):
                raise ValueError(f"{each.input_line}: holds no value, so that the sweep has no job")
        jobs = self.split_arguments(overrides, None)[0]
        added = [builtin_tasks(job) for job in jobs]
        for line in dict.fromkeys(" ".join(each) for each in added if each):
            print(f"dataset=builtin also sets {line}", file=sys.stderr)
        return [[*job, *each] for job, each in zip(jobs, added, strict=True)]


def builtin_tasks(job: Sequence[str]) -> list[str]:
    """The choices that an experiment needs with builtin data: builtin instructions, their checker and probes.

    An experiment names the paper's instructions, judge and benchmarks; with dataset=builtin they would make no sense.
    So `experiment=NAME dataset=builtin` runs on its own. Groups named on the command line stay as they are.
    """
    named = {override.split("=", 1)[0] for override in job}
    if "experiment" not in named or "dataset=builtin" not in job:
        return []
    choices = {"eval_set": "builtin", "judge": "reference", "probe": "default"}
    return [f"{group}={choice}" for group, choice in choices.items() if group not in named]


def _is_busy(result: JobReturn) -> bool:
    return result.status != JobStatus.COMPLETED and type(result._return_value).__name__ == "RunBusy"


def _bookkeeping(job: Any, position: str, group: str) -> list[str]:
    """What only the sweep knows: position in the queue, W&B group, and the identity that was checked.

    The job refuses to run as anything else, so a YAML edited while it waits in a queue cannot change it.
    """
    from harness.pipeline.plan import BOOKKEEPING

    group = job.config.tracking.group or job.config.experiment or group
    values = (job.run_id, position, group)
    return [f"{key}={quoted(value)}" for key, value in zip(BOOKKEEPING, values, strict=True)]


def quoted(text: str) -> str:
    """Quote any text for Hydra's grammar: "null" and "2024" stay text, "a (b)" and "Läufe" parse, "${x}" is literal.

    Backslashes matter only before a quote, the end or an interpolation, and are doubled there.
    """
    plain = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), plain) + "'"


def _noted(config: Any, launched: Sequence[str]) -> Any:
    """The job's settings with what `_bookkeeping` adds, for a run that Hydra does not compose again."""
    run_id, position, group = (override.split("=", 1)[1].strip("'") for override in launched[-3:])
    harness = config.harness.model_copy(update={"run_id": run_id, "position": position})
    return config.model_copy(
        update={"harness": harness, "tracking": config.tracking.model_copy(update={"group": group})}
    )


def _returned(outcome: Exception | None) -> JobReturn:
    result = JobReturn()
    result.status = JobStatus.COMPLETED if outcome is None else JobStatus.FAILED
    result._return_value = outcome
    return result


def _raise_if_failed(run_ids: list[str], results: Sequence[JobReturn], output_dir: str) -> None:
    from harness.pipeline.plan import RunFailed
    from harness.record.secrets import redact

    failures = [
        f"{run_id}: {type(result._return_value).__name__}: {result._return_value} (see {output_dir}/{run_id}/log.txt)"
        for run_id, result in zip(run_ids, results, strict=True)
        if result.status != JobStatus.COMPLETED
    ]
    for failure in failures:
        print(redact(f"failed: {failure}"), file=sys.stderr)
    if failures:
        raise RunFailed(f"{len(failures)} of {len(results)} runs failed; repeat the command to continue them")
