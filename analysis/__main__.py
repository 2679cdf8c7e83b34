"""python -m analysis: tables of runs, comparisons, progress, from a folder of runs or from Weights & Biases."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from analysis.commands import COMMANDS
from analysis.commands.options import DEFAULT_SOURCE
from harness.record.escape import escape_controls

_ALLOCATED_BEFORE_COLLECTING = 200_000


def main(argv: list[str] | None = None, prog: str = "python -m analysis") -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2. prog: as it was called, for usage."""
    if find_spec("pandas") is None:
        print("error: pandas is not installed: tables need pip install 'noise-harness[run]'", file=sys.stderr)
        return 2
    # Hundreds of thousands of numbers and texts come to stay: looking for cycles among them again and again takes time.
    gc.set_threshold(_ALLOCATED_BEFORE_COLLECTING)
    words = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows "?"
    command = import_module(f"analysis.commands.{words[0]}") if words and words[0] in COMMANDS else None
    arguments = _parsed(words, command, prog)
    try:
        return _write(command.run(arguments), getattr(arguments, "output", None)) if command else 0
    except (ValueError, OSError) as error:
        print(f"error: {escape_controls(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parsed(words: list[str], command: ModuleType | None, prog: str) -> argparse.Namespace:
    """The arguments; sources may also follow an option (`table ablation --format csv runs`)."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Make tables, figures and reports from folders of runs or from W&B.",
        epilog=f"Run {prog} COMMAND -h for the options of a command.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND")
    for name, line in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=line, description=f"{line[0].upper()}{line[1:]}.")
        if command and name == words[0]:
            command.add_arguments(subparser)
    arguments, rest = parser.parse_known_args(words)
    sources = getattr(arguments, "source", None)
    if rest and (not isinstance(sources, list) or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest and isinstance(sources, list):
        arguments.source = rest if sources is DEFAULT_SOURCE else [*sources, *rest]
    if not command:
        parser.print_help()
    return arguments


def _write(text: str, output: str | None) -> int:
    if output is None:
        try:
            print(text, end="", flush=True)
        except BrokenPipeError:  # `| head` has closed the pipe; Python must not flush into it on exit either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"-o {output}: {error.strerror}") from error
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
