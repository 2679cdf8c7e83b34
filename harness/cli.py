"""The command `python -m harness`: Hydra composes, bad input is answered in one line, nothing heavy is imported."""

from __future__ import annotations

import os
import signal
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness.config.arguments import as_meant, version
from harness.config.paths import conf_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from harness.config import Config
    from harness.pipeline.plan import Plan

# Whether the user has set HYDRA_FULL_ERROR, which `main` sets for Hydra, too. Not read here: processes that a launcher
# starts inherit what `main` has set.
_shows_tracebacks = False


def main() -> None:
    """Entry point; exit status 0 done, 1 a run failed, 2 bad input (nothing was started), 130 interrupted."""
    # GPUs are looked for before a run reserves its own: through NVML, which does not initialise CUDA.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    sys.excepthook = _print_redacted
    if "--version" in sys.argv[1:]:
        print(version())
        return
    if sys.argv[0].endswith("__main__.py"):
        sys.argv[0] = "python -m harness"  # in usage lines, and in a run's record
    global _shows_tracebacks
    _shows_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # With this set, Hydra raises errors instead of printing several lines and a hint.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from harness.config.compose import prepare_hydra
    from harness.system.versions import check_versions

    prepare_hydra()
    # Hydra deep-copies its config store, its own schema included, for every group it looks at: two thirds of the time
    # of --help. Only `store` writes to it, so returning the store itself is safe.
    ConfigStore.__deepcopy__ = lambda store, _memo: store  # type: ignore[attr-defined]
    try:
        check_versions()
        sys.argv[1:] = as_meant(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_job)()
    except (ValueError, OSError, RecursionError, HydraException, OmegaConfBaseException, YAMLError) as error:
        sys.exit(_report(error))
    except KeyboardInterrupt as stop:
        print(f"{str(stop) or 'interrupted'}; repeat the command to continue", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        if not _shows_tracebacks:
            os.environ.pop("HYDRA_FULL_ERROR", None)  # what it starts or is called by is not changed


def _job(composed: DictConfig) -> Any:
    """What Hydra calls for each job: once without -m, by a launcher (perhaps on another machine) with it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    overrides = list(HydraConfig.get().overrides.task)
    if composed.harness.run_id is not None:
        from harness.pipeline.plan import config_from
        from harness.pipeline.runner import execute

        config = config_from(composed, overrides)
        return _returned(execute(config), config)
    from omegaconf.errors import OmegaConfBaseException

    from harness.pipeline.plan import RunFailed

    try:
        return _single(composed, overrides)
    except (ValueError, OSError, RecursionError, OmegaConfBaseException) as error:
        if isinstance(error, RunFailed) and HydraConfig.get().mode == RunMode.MULTIRUN:
            print(f"failed: {error}", file=sys.stderr)
            raise  # a search goes on without it, if its sweeper is told so
        sys.exit(_report(error))  # Hydra would print its own line before an exception


def _single(composed: DictConfig, overrides: list[str]) -> Any:
    """Plan, check and do one run; in a sweep, the sweeper has already planned."""
    from harness.pipeline.plan import config_from, make_plan

    config = config_from(composed, overrides)
    plan = make_plan([config])
    if not plan.announce():
        return _not_run(plan, config)
    from harness.pipeline.here import check_this_machine
    from harness.pipeline.runner import run_job
    from harness.pipeline.stages import prepare
    from harness.system.waiting import waiting

    warnings = check_this_machine(plan.to_run)
    with waiting("reading the data, tokenizing"):
        lines = prepare(plan.to_run)
    print(*warnings, *lines, sep="\n", file=sys.stderr)
    return _returned(run_job(plan.to_run[0]), config)


def _not_run(plan: Plan, config: Config) -> Any:
    """What a job returns that has nothing to do: to a search the number of the run that is done.

    Raises:
        ValueError: a search was asked to run nothing.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if config.harness.objective is None:
        return None
    if plan.is_done:
        from harness.pipeline.runner import run_job

        return _returned(run_job(plan.jobs[0]), config)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ValueError("harness.dry_run: a search has no plan, what it tries next depends on what it found")
    return None


def _returned(summary: dict[str, Any], config: Config) -> Any:
    """What the Hydra job returns: the summary, or the number that a search asked for."""
    if config.harness.objective is None:
        return summary
    from harness.pipeline.search import objective_of

    value = objective_of(summary, config)
    print(f"{summary['run_id']}: {config.harness.objective} {value:.6g}", file=sys.stderr)
    return value


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own report of an uncaught exception, without secrets."""
    import traceback

    from harness.record.secrets import redact

    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def one_line_of(error: BaseException) -> str | None:
    """What is said of a user's mistake, wherever it was found; None of anything else."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from harness.config import defaults
    from harness.config.messages import keys_of, one_line
    from harness.record.secrets import redact

    if not isinstance(
        error, ValueError | OSError | RecursionError | HydraException | OmegaConfBaseException | YAMLError
    ):
        return None
    return redact(one_line(error, keys_of(defaults())))


def _report(error: Exception) -> int:
    """Say what went wrong in a line, below its traceback if one was asked for; the exit status."""
    from harness.pipeline.plan import RunFailed

    if _shows_tracebacks:
        _print_redacted(type(error), error, error.__traceback__)
    print(f"error: {one_line_of(error)}", file=sys.stderr)
    return 1 if isinstance(error, RunFailed) else 2
