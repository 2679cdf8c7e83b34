"""python -m analysis: tables of runs, comparisons, progress, from a folder of runs or from Weights & Biases."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from analysis.commands.arguments import chosen, parse, parser

_EXTRA = "pip install 'noise-harness[report]' brings it"

# Between two runs of a sweep none is running: watching ends when that was seen so many times in a row.
_LOOKS = 2


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    commands = parser(_COMMANDS)
    arguments = parse(commands, argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without arrows shows "?" for one
    if not hasattr(arguments, "command"):
        commands.print_help()
        return 0
    try:
        return _write(arguments.command(arguments), arguments.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _write(text: str, output: str | None) -> int:
    if output is None:
        try:
            print(text, end="", flush=True)
        except BrokenPipeError:  # `| head` has seen enough; what Python flushes at its end must find no pipe either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"-o {output}: {error.strerror}") from error
    print(f"wrote {output}")
    return 0


def _table(arguments: argparse.Namespace) -> str:
    from analysis.tables.computed.registry import COMPUTED
    from analysis.tables.layout import Layout
    from analysis.tables.layouts import LAYOUTS, custom_layout, layout_named

    if arguments.name == "list":
        titles = {name: layout.title for name, layout in LAYOUTS.items()} | {
            n: each.title for n, each in COMPUTED.items()
        }
        titles["custom"] = "rows, columns and metrics by name: --rows, --columns, --metrics"
        return "".join(f"{name:<18}{title}\n" for name, title in titles.items())
    given = (arguments.rows, arguments.columns, arguments.metrics, arguments.differences, arguments.baseline)
    layout: Layout | None = None
    if arguments.name == "custom":
        layout = custom_layout(*given)
    elif any(given):
        flags = "--rows, --columns, --metrics, --differences, --baseline"
        raise ValueError(f"{flags}: only for the table custom, not {arguments.name}")
    elif arguments.name not in COMPUTED:
        layout = layout_named(arguments.name)
    from analysis.render.formats import render
    from analysis.sources.runs import load_runs
    from analysis.tables.build import build

    runs = load_runs(arguments.source, **chosen(arguments))
    noises = sorted(runs.runs["noise"].dropna().unique())
    if arguments.baseline not in (None, *noises):
        raise ValueError(
            f"--baseline {arguments.baseline}: no finished run of that noise; there are {', '.join(noises)}"
        )
    return render(build(runs, layout) if layout else COMPUTED[arguments.name].make(runs), arguments.format)


def _finding(arguments: argparse.Namespace) -> str:
    from analysis.sources.runs import load_runs
    from analysis.study.finding import findings, without_baseline

    runs = load_runs(arguments.source, **chosen(arguments))
    if without_baseline(runs):
        return "nothing to compare with: no finished run has noise=none\n"
    return "".join(f"{finding}\n" for finding in findings(runs)) or "nothing to compare: no noise with a baseline\n"


def _compare(arguments: argparse.Namespace) -> str:
    from analysis.commands.compare import compare
    from analysis.render.formats import render

    return render(compare(arguments.first, arguments.second, arguments.source), arguments.format)


def _status(arguments: argparse.Namespace) -> str:
    from analysis.commands.status import is_running, status
    from analysis.render.formats import render

    idle = 0
    while True:
        table = status(arguments.source, every=arguments.all, **chosen(arguments))
        text = render([table], arguments.format)
        idle = 0 if is_running(table) else idle + 1
        if arguments.watch is None or idle == _LOOKS:
            return text
        print(f"\033[H\033[J{text}" if sys.stdout.isatty() else text, flush=True)
        time.sleep(arguments.watch)


def _dashboard(arguments: argparse.Namespace) -> str:
    from analysis.sources.runs import load_runs

    try:
        from analysis.commands.dashboard import save, specification, workspace
    except ImportError as error:
        raise ValueError(f"dashboard: {error}; pip install 'noise-harness[dashboard]' brings it") from error
    found = workspace(arguments.project, load_runs(arguments.source or arguments.project))
    return specification(found) if arguments.spec else f"{save(found)}\n"


def _notebooks(arguments: argparse.Namespace) -> str:
    try:
        from analysis.commands.notebooks import execute
    except ImportError as error:
        raise ValueError(f"notebooks: {error}; pip install 'noise-harness[notebooks]' brings it") from error
    chosen = arguments.only.split(",") if arguments.only else ()
    return "".join(f"wrote {page}\n" for page in execute(arguments.source, Path(arguments.folder), chosen))


def _figures(arguments: argparse.Namespace) -> str:
    try:
        from analysis.figures import FIGURES, write_figures
    except ImportError as error:
        raise ValueError(f"figures: {error}; {_EXTRA}") from error
    from analysis.sources.runs import load_runs

    if arguments.only == "list":
        return "".join(f"{name:<20}needs {kind.needs}\n" for name, kind in FIGURES.items())
    names = tuple(arguments.only.split(",")) if arguments.only else tuple(FIGURES)
    return write_figures(load_runs(arguments.source, **chosen(arguments)), arguments.folder, names, arguments.width)


def _report(arguments: argparse.Namespace) -> str:
    try:
        from analysis.report import write_report
    except ImportError as error:
        raise ValueError(f"report: {error}; {_EXTRA}") from error
    options = chosen(arguments)
    return write_report(arguments.source, arguments.page, arguments.max_mb, arguments.title, arguments.note, **options)


_COMMANDS = {
    "table": _table,
    "finding": _finding,
    "compare": _compare,
    "status": _status,
    "dashboard": _dashboard,
    "notebooks": _notebooks,
    "figures": _figures,
    "report": _report,
}


if __name__ == "__main__":
    sys.exit(main())
