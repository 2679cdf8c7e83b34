"""What may be typed after `python -m analysis`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

FORMATS = ("text", "markdown", "csv", "latex", "html")
_SOURCE = "a folder of runs, a folder of offline W&B logs, or entity/project on W&B"
_SOURCES = f"{_SOURCE}; one or several (default: runs)"

DEFAULT = ["runs"]

Command = Callable[[argparse.Namespace], str]


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser; a command that was given is `command` in what it returns, under the names of `commands`."""
    found = argparse.ArgumentParser(
        prog="python -m analysis",
        description="Tables of runs, comparisons, progress, figures, a report: from folders of runs or from W&B.",
        epilog="python -m analysis COMMAND -h says what each takes.",
    )
    subparsers = found.add_subparsers(metavar="COMMAND")
    for name, (add, line) in _COMMANDS.items():
        command = subparsers.add_parser(name, help=line, description=f"{line[0].upper()}{line[1:]}.")
        command.set_defaults(command=commands[name], output=None)
        add(command)
    return found


def parse(commands: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The arguments; sources may stand behind an option, too (`table ablation --format csv runs`)."""
    arguments, rest = commands.parse_known_args(argv)
    if rest and (
        not isinstance(getattr(arguments, "source", None), list) or any(each.startswith("-") for each in rest)
    ):
        commands.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.source = rest if arguments.source is DEFAULT else [*arguments.source, *rest]
    return arguments


def chosen(arguments: argparse.Namespace) -> dict[str, Any]:
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


def _table(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", default="ablation", metavar="NAME", help="a table, or list for all names")
    _sources(command)
    custom = command.add_argument_group(
        "the table custom", "comma-separated names: settings (noise, train.lr), metrics"
    )
    custom.add_argument("--rows", metavar="SETTINGS")
    custom.add_argument("--columns", metavar="SETTING", help="a group of columns for each of its values")
    custom.add_argument("--metrics", metavar="METRICS", help="names, or patterns like probe/*")
    custom.add_argument("--differences", metavar="METRICS", help="those to compare with the baseline (the win rate)")
    custom.add_argument("--baseline", metavar="NOISE", help="what they are compared with (default: none)")
    _finish(command)


def _finding(command: argparse.ArgumentParser) -> None:
    _sources(command)
    command.add_argument("-o", "--output", metavar="FILE", help="write to a file instead of the terminal")


def _compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("first", metavar="RUN", help="a run folder, or an id in SOURCE, or a part of one")
    command.add_argument("second", metavar="RUN")
    command.add_argument("--source", default="runs", metavar="SOURCE", help=f"{_SOURCE} (default: runs)")
    _finish(command)


def _status(command: argparse.ArgumentParser) -> None:
    _sources(command)
    command.add_argument("--all", action="store_true", help="list finished runs, too, however many they are")
    command.add_argument(
        "--watch", nargs="?", type=float, const=10.0, metavar="SECONDS", help="again every 10 s, while runs are running"
    )
    _finish(command)


def _dashboard(command: argparse.ArgumentParser) -> None:
    command.add_argument("project", metavar="ENTITY/PROJECT")
    command.add_argument("--source", metavar="SOURCE", help="runs that decide the panels (default: the project's)")
    command.add_argument("--spec", action="store_true", help="print the specification (JSON) and save nothing")
    command.add_argument("-o", "--output", metavar="FILE", help="write to a file instead of the terminal")


def _notebooks(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="?", default="runs", metavar="SOURCE", help=f"{_SOURCE} (default: runs)")
    command.add_argument("-o", dest="folder", default="notebooks", metavar="FOLDER", help="default: notebooks")
    command.add_argument("--only", metavar="NAMES", help="comma-separated names")


def _figures(command: argparse.ArgumentParser) -> None:
    _sources(command)
    command.add_argument("-o", dest="folder", default="figures", metavar="FOLDER", help="where to (default: figures)")
    command.add_argument("--only", metavar="NAMES", help="comma-separated names; list prints them")
    command.add_argument("--width", type=float, default=6.75, metavar="INCHES", help="3.3: one of two columns of print")


def _report(command: argparse.ArgumentParser) -> None:
    _sources(command)
    command.add_argument("-o", dest="page", default="report.html", metavar="FILE", help="default: report.html")
    command.add_argument("--max-mb", type=float, default=25.0, metavar="N", help="largest page; default: 25")
    command.add_argument("--title", default="", metavar="TEXT", help="heading of the page (default: the source)")
    command.add_argument("--note", default="", metavar="TEXT", help="what was asked and found, at the top of the page")


_COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "table": (_table, "a table of finished runs; without a NAME of its own: ablation"),
    "finding": (_finding, "what the runs show of each noise, a sentence each"),
    "compare": (_compare, "two runs: settings that differ, results"),
    "status": (_status, "how far a sweep is, and why runs have no result"),
    "dashboard": (_dashboard, "a saved workspace on W&B: panels by noise and alpha"),
    "notebooks": (_notebooks, "run the notebooks on a source, into .ipynb and .html"),
    "figures": (_figures, "the figures of finished runs, as SVG, PDF and PNG with captions"),
    "report": (_report, "one self-contained HTML page: tables, figures, runs, answers"),
}


def _sources(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="*", default=DEFAULT, metavar="SOURCE", help=_SOURCES)
    command.add_argument("--group", help="only this group (a sweep)")
    command.add_argument(
        "--where", action="append", metavar="SETTING=VALUES", help="only runs with these, like noise=none,neftune"
    )


def _finish(command: argparse.ArgumentParser) -> None:
    command.add_argument("--format", choices=FORMATS, default="text")
    command.add_argument("-o", "--output", metavar="FILE", help="write to a file instead of the terminal")
