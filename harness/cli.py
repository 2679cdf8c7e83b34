"""The command `python -m harness`: Hydra composes, one line answers bad input, nothing heavy is imported here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness.config.paths import PACKAGE, conf_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig


def enable_plugins() -> None:
    """Let Hydra find our sweeper, a plugin of the namespace package `hydra_plugins`."""
    folder = str(PACKAGE / "_ext")
    if folder not in sys.path:
        sys.path.insert(0, folder)


def with_builtin_tasks(arguments: list[str]) -> list[str]:
    """The command line of an experiment on builtin data, with builtin instructions, their checker and probes added.

    An experiment names the paper's instructions, judge and benchmarks; with dataset=builtin they would make no sense,
    and so `experiment=NAME dataset=builtin` runs small as it stands. Groups that the command line names stay so.
    """
    named = {argument.split("=", 1)[0] for argument in arguments}
    if "experiment" not in named or "dataset=builtin" not in arguments:
        return arguments
    choices = {"eval_set": "builtin", "judge": "reference", "probe": "default"}
    return arguments + [f"{group}={choice}" for group, choice in choices.items() if group not in named]


def main() -> None:
    """Entry point; exit status 0 done, 1 a run failed, 2 bad input (nothing was started)."""
    enable_plugins()
    sys.excepthook = _print_redacted
    completed = with_builtin_tasks(sys.argv[1:])
    if added := completed[len(sys.argv) - 1 :]:
        print(f"dataset=builtin brings {' '.join(added)}", file=sys.stderr)
        sys.argv[1:] = completed
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # With this set Hydra raises its errors instead of printing several lines and a hint.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from harness.config import defaults
    from harness.system.versions import check_versions

    # For every group that it looks at, Hydra copies its store of configs, our schema included: most of the time of
    # --help. Only `store` writes to it, so the copies may be the store itself.
    ConfigStore.__deepcopy__ = lambda store, _memo: store  # type: ignore[attr-defined]
    # Every key of the schema exists before the YAML files are laid over it, so any can be overridden.
    ConfigStore.instance().store(name="schema", node=defaults())
    try:
        check_versions()
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_job)()
    except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
        if show_traceback:
            raise
        sys.exit(_report(error))


def _job(composed: DictConfig) -> Any:
    """What Hydra calls for each job: once without -m, by a launcher (perhaps on another machine) with it."""
    from hydra.core.hydra_config import HydraConfig

    overrides = list(HydraConfig.get().overrides.task)
    if composed.harness.run_id is not None:
        from harness.pipeline.plan import config_from
        from harness.pipeline.runner import execute

        return execute(config_from(composed, overrides))
    try:
        return _single(composed, overrides)
    except (ValueError, OSError) as error:
        sys.exit(_report(error))  # Hydra would print a line of its own before an exception


def _single(composed: DictConfig, overrides: list[str]) -> Any:
    """Plan, check and do one run; in a sweep the sweeper has planned already."""
    from harness.pipeline.plan import config_from, make_plan

    config = config_from(composed, overrides)
    plan = make_plan([config])
    if not plan.announce():
        return None
    from harness.pipeline.prepare import prepare
    from harness.pipeline.runner import execute

    print(*prepare(plan), sep="\n", file=sys.stderr)

    return execute(config)


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own report of an uncaught exception, without secrets."""
    import traceback

    from harness.record.secrets import redact

    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def _report(error: Exception) -> int:
    from harness.pipeline.plan import RunFailed
    from harness.record.secrets import redact

    print(f"error: {redact(one_line(error))}", file=sys.stderr)
    return 1 if isinstance(error, RunFailed) else 2


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; what Hydra says of keys and lists of values, in this project's terms."""
    text = str(error)
    if error.__cause__ is not None and str(error.__cause__) not in text:
        text += f" {error.__cause__}"
    ambiguous = re.match(r"Ambiguous value for argument '([^']*)'", text)
    if ambiguous:
        return f"{ambiguous[1]}: several values need a sweep; add -m (python -m harness -m {ambiguous[1]} ...)"
    unknown = re.match(r"Could not override '([^']*)'", text)
    if unknown:
        return f"{unknown[1]}: there is no such key{_did_you_mean(unknown[1])}"
    text = re.sub(r"\s+(full_key: |Config search path:).*", "", text, flags=re.DOTALL).removeprefix("In 'config': ")
    return re.sub(r"\s+", " ", text).strip() or type(error).__name__


def _did_you_mean(key: str) -> str:
    import difflib

    from harness.config import defaults

    known = list(_keys(defaults()))
    close = difflib.get_close_matches(key, known, n=3)
    return f" (did you mean {', '.join(close)}?)" if close else ""


def _keys(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key as it is typed, sections included: dataset, dataset.clean, dataset.clean.roles."""
    for name, value in section.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")
