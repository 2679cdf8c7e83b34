"""What a user may have meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MOST = 4


def listed(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list, without the spaces around them."""
    return tuple(name for each in text.split(",") if (name := each.strip()))


def is_pattern(name: str) -> bool:
    """Whether it contains any character of a glob pattern."""
    return any(sign in name for sign in "*?[")


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Existing names that end with this one after a dot or slash, or are spelled similarly; likeliest first."""
    known = list(dict.fromkeys(known))
    wanted = name.lower().replace("-", "_")
    ends = [each for each in known if each.lower().endswith((f".{wanted}", f"/{wanted}"))]
    by_lower = {each.lower(): each for each in known}
    near = [by_lower[each] for each in get_close_matches(wanted, by_lower, n=_MOST, cutoff=0.7)]
    return list(dict.fromkeys([*ends, *near]))[:_MOST]


def hint(name: str, known: Iterable[str]) -> str:
    """ "; did you mean A or B?", or nothing."""
    found = similar(name, known)
    return f"; did you mean {' or '.join(found)}?" if found else ""
