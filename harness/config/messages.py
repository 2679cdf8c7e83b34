"""Errors of pydantic and Hydra as one line, in terms of what the user typed, with suggestions for mistyped keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError


def rule_violations(error: ValidationError, section: str = "") -> str:
    """What the schema rejected: one clause per rule, each with the key, its value and what is allowed.

    Args:
        error: raised by pydantic.
        section: prefix of all keys of the schema; "" for the whole configuration.
    """
    return "; ".join(_violation(item, section) for item in error.errors())


def _violation(item: Any, section: str) -> str:
    key = ".".join(str(part) for part in (section, *item["loc"]) if part != "")
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if item["type"] == "extra_forbidden":
        return f"{key}: there is no such key"
    if item["type"] == "missing":
        return f"{key}: is missing"
    if item["type"] == "list_type" and isinstance(item["input"], str | int | float):
        return f"{key}={item['input']}: must be a list, even of one value: {key}=[{item['input']}]"
    if isinstance(item["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key}={item['input']!r}: {message}"


def one_line(error: BaseException, known: Iterable[str] = ()) -> str:
    """The text of an error on one line, with Hydra's reports about keys and lists of values in this project's terms.

    Args:
        error: any exception.
        known: the keys that exist, for suggestions.
    """
    if isinstance(error, RecursionError):
        return f"{_file_being_read(error)}nested too deeply, or an anchor that contains itself"
    text = str(error)
    if error.__cause__ is not None and str(error.__cause__) not in text:
        text += f" {error.__cause__}"
    if (mark := getattr(error, "problem_mark", None)) is not None:  # PyYAML's
        return f"{mark.name}: line {mark.line + 1}: {getattr(error, 'problem', None) or 'broken YAML'}"
    sweep = re.match(r"Sweep parameters '([^']*)' requires --multirun", text)
    if sweep:
        return _needs_a_sweep(sweep[1])
    ambiguous = re.match(r"Ambiguous value for argument '([^']*)'", text)
    if ambiguous:
        return _needs_a_sweep(ambiguous[1])
    unknown = re.match(r"Could not override '([^']*)'", text)
    if unknown:
        return f"{unknown[1]}: there is no such key{did_you_mean(unknown[1], known)}"
    plugin = re.search(r"Could not find 'hydra/(sweeper|launcher)/(\w+)'", text)
    if plugin and plugin[2] in _PLUGINS:
        extra = _PLUGINS[plugin[2]]
        return f"hydra/{plugin[1]}={plugin[2]}: not installed (pip install 'noise-harness[{extra}]')"
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing[1]}: is missing; its YAML file must set it"
    text = re.sub(r"\s+(full_key: |Config search path:).*", "", text, flags=re.DOTALL).removeprefix("In 'config': ")
    return re.sub(r"\s+", " ", text).strip() or type(error).__name__


def _file_being_read(error: BaseException) -> str:
    """ "FILE: " if Hydra was reading a configuration file, which its error does not name."""
    trace, path = error.__traceback__, ""
    while trace is not None:
        path = trace.tb_frame.f_locals.get("full_path", path) if "hydra" in trace.tb_frame.f_code.co_filename else path
        trace = trace.tb_next
    return f"{path}: " if path else ""


# Hydra's plugins -> the extra of ours that brings them.
_PLUGINS = {"optuna": "optuna", "joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm"}


def _needs_a_sweep(argument: str) -> str:
    """The message for several values without -m; a function such as range() must be quoted for the shell."""
    typed = f"'{argument}'" if "(" in argument else argument
    return f"{argument}: several values need a sweep; add -m (python -m harness -m {typed} ...)"


# What other trainers call these keys.
_ELSEWHERE = {
    **dict.fromkeys(("learning_rate", "learningrate"), "lr"),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size", "batchsize"), "batch_size"),
    **{"num_train_epochs": "epochs", "num_epochs": "epochs", "lr_scheduler_type": "scheduler", "optim": "optimizer"},
    **{"neftune_noise_alpha": "alpha", "noise_alpha": "alpha", "max_seq_length": "max_length", "bf16": "precision"},
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " (did you mean A, B?)": keys with the same last word, or what other trainers call it, else the most similar."""
    names = list(known)
    word = name.rpartition(".")[2]
    called = _ELSEWHERE.get(word, word)
    close = [each for each in names if each == called or each.endswith(f".{called}")][:3]
    close = close or get_close_matches(name, names, n=3)
    return f" (did you mean {', '.join(close)}?)" if close else ""


def keys_of(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key as it is typed, sections included: dataset, dataset.clean, dataset.clean.roles."""
    for name, value in section.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{name}.")
