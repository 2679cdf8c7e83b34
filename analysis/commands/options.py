"""Options for sources and output shared by several commands, and the message about a missing extra."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FORMATS = ("text", "markdown", "csv", "latex", "html")
SOURCE = "a folder of runs, a folder of offline W&B logs, or entity/project on W&B"

DEFAULT_SOURCE = ["runs"]


def add_sources(command: argparse.ArgumentParser) -> None:
    """SOURCE ..., --group, --where."""
    several = f"{SOURCE}; one or several (default: runs)"
    command.add_argument("source", nargs="*", default=DEFAULT_SOURCE, metavar="SOURCE", help=several)
    command.add_argument("--group", help="only this group (a sweep)")
    command.add_argument(
        "--where", action="append", metavar="SETTING=VALUES", help="only runs with these, like noise=none,neftune"
    )


def add_output(command: argparse.ArgumentParser) -> None:
    """-o."""
    command.add_argument("-o", "--output", metavar="FILE", help="write to a file instead of the terminal")


def add_format(command: argparse.ArgumentParser) -> None:
    """--format and -o."""
    command.add_argument("--format", choices=FORMATS, default="text")
    add_output(command)


def selection(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options for `load_runs` in --group and --where.

    Raises:
        ValueError: a --where is not SETTING=VALUE.
    """
    where: dict[str, list[str]] = {}
    for text in arguments.where or []:
        key, sign, values = text.partition("=")
        if not sign or not values:
            raise ValueError(f"--where {text}: expected SETTING=VALUE or SETTING=VALUE,VALUE, like noise=none,neftune")
        where.setdefault(key, []).extend(values.split(","))
    return {"group": arguments.group, "where": where}


@contextmanager
def extra(command: str, name: str) -> Iterator[None]:
    """Turn a missing package into one line that names the extra to install.

    Raises:
        ValueError: an import inside the block failed.
    """
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{command}: {error}; install it: pip install 'noise-harness[{name}]'") from error
