"""Errors as one line, in the terms of what was typed: what pydantic and Hydra report, and what was meant by a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError


def rule_violations(error: ValidationError, section: str = "") -> str:
    """What a schema refused, one clause per rule, each with key, value and what is allowed.

    Args:
        error: of pydantic.
        section: the key before all keys of the schema; "" for the whole configuration.
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
    if isinstance(item["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key}={item['input']!r}: {message}"


def one_line(error: BaseException, known: Iterable[str] = ()) -> str:
    """An error's text without line breaks; what Hydra reports of keys and lists of values, in this project's terms.

    Args:
        error: any.
        known: the keys that exist, for a suggestion in place of one that does not.
    """
    text = str(error)
    if error.__cause__ is not None and str(error.__cause__) not in text:
        text += f" {error.__cause__}"
    ambiguous = re.match(r"Ambiguous value for argument '([^']*)'", text)
    if ambiguous:
        return f"{ambiguous[1]}: several values need a sweep; add -m (python -m harness -m {ambiguous[1]} ...)"
    unknown = re.match(r"Could not override '([^']*)'", text)
    if unknown:
        return f"{unknown[1]}: there is no such key{did_you_mean(unknown[1], known)}"
    text = re.sub(r"\s+(full_key: |Config search path:).*", "", text, flags=re.DOTALL).removeprefix("In 'config': ")
    return re.sub(r"\s+", " ", text).strip() or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " (did you mean A, B?)" with the names most like this one, or nothing."""
    close = get_close_matches(name, list(known), n=3)
    return f" (did you mean {', '.join(close)}?)" if close else ""


def keys_of(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key as it is typed, sections included: dataset, dataset.clean, dataset.clean.roles."""
    for name, value in section.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{name}.")
