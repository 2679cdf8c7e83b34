"""python -m analysis: tables of runs, comparisons, progress, from a folder of runs or from Weights & Biases."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

FORMATS = ("text", "markdown", "csv", "latex", "html")
_SOURCE = "a folder of runs, a folder of offline W&B logs, or entity/project on W&B (default: runs)"

_EXTRA = "pip install 'noise-harness[report]' brings it"


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "command"):
        parser.print_help()
        return 0
    try:
        text = arguments.command(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.output is None:
        print(text, end="")
    else:
        try:
            Path(arguments.output).write_text(text, encoding="utf-8")
        except OSError as error:
            print(f"error: -o {arguments.output}: {error.strerror}", file=sys.stderr)
            return 2
        print(f"wrote {arguments.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND")
    table = commands.add_parser("table", help="a table of finished runs; without a NAME of its own: ablation")
    table.add_argument("name", nargs="?", default="ablation", metavar="NAME", help="a table, or list for all names")
    table.add_argument("source", nargs="?", default="runs", metavar="SOURCE", help=_SOURCE)
    table.add_argument("--group", help="only this W&B group (a sweep)")
    custom = table.add_argument_group("the table custom", "comma-separated names: settings (noise, train.lr), metrics")
    custom.add_argument("--rows", metavar="SETTINGS")
    custom.add_argument("--columns", metavar="SETTING", help="a group of columns for each of its values")
    custom.add_argument("--metrics", metavar="METRICS", help="names, or patterns like probe/*")
    custom.add_argument("--differences", metavar="METRICS", help="those to compare with the baseline (the win rate)")
    custom.add_argument("--baseline", metavar="NOISE", help="what they are compared with (default: none)")
    _finish(table, _table)
    compare = commands.add_parser("compare", help="two runs: settings that differ, results")
    compare.add_argument("first", metavar="RUN", help="a run folder, or an id in SOURCE, or a part of one")
    compare.add_argument("second", metavar="RUN")
    compare.add_argument("--source", default="runs", metavar="SOURCE", help=_SOURCE)
    _finish(compare, _compare)
    status = commands.add_parser("status", help="how far a sweep is, and why runs have no result")
    status.add_argument("source", nargs="?", default="runs", metavar="SOURCE", help=_SOURCE)
    _finish(status, _status)
    dashboard = commands.add_parser("dashboard", help="a saved workspace on W&B: panels by noise and alpha")
    dashboard.add_argument("project", metavar="ENTITY/PROJECT")
    dashboard.add_argument("--source", metavar="SOURCE", help="runs that decide the panels (default: the project's)")
    dashboard.add_argument("--spec", action="store_true", help="print the specification (JSON) and save nothing")
    dashboard.add_argument("-o", "--output", metavar="FILE", help="write to a file instead of the terminal")
    dashboard.set_defaults(command=_dashboard)
    notebooks = commands.add_parser("notebooks", help="run the notebooks on a source, into .ipynb and .html")
    notebooks.add_argument("source", nargs="?", default="runs", metavar="SOURCE", help=_SOURCE)
    notebooks.add_argument("-o", dest="folder", default="notebooks", metavar="FOLDER", help="default: notebooks")
    notebooks.add_argument("--only", metavar="NAMES", help="comma-separated names")
    notebooks.set_defaults(command=_notebooks, output=None)
    figures = commands.add_parser("figures", help="the figures of finished runs, as SVG, PDF and PNG with captions")
    figures.add_argument("source", nargs="?", default="runs", metavar="SOURCE", help=_SOURCE)
    figures.add_argument("-o", dest="folder", default="figures", metavar="FOLDER", help="where to (default: figures)")
    figures.add_argument("--only", metavar="NAMES", help="comma-separated names; list prints them")
    figures.add_argument("--width", type=float, default=6.75, metavar="INCHES", help="3.3: one of two columns of print")
    figures.set_defaults(command=_figures, output=None)
    report = commands.add_parser("report", help="one self-contained HTML page: tables, figures, runs, answers")
    report.add_argument("source", nargs="?", default="runs", metavar="SOURCE", help=_SOURCE)
    report.add_argument("-o", dest="page", default="report.html", metavar="FILE", help="default: report.html")
    report.add_argument("--group", help="only this W&B group (a sweep)")
    report.add_argument("--max-mb", type=float, default=25.0, metavar="N", help="largest page; default: 25")
    report.add_argument("--title", default="", metavar="TEXT", help="heading of the page (default: the source)")
    report.add_argument("--note", default="", metavar="TEXT", help="what was asked and found, at the top of the page")
    report.set_defaults(command=_report, output=None)
    return parser


def _finish(parser: argparse.ArgumentParser, command: object) -> None:
    parser.set_defaults(command=command)
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file instead of the terminal")


def _table(arguments: argparse.Namespace) -> str:
    from analysis.layout import Layout
    from analysis.layouts import LAYOUTS, custom_layout, layout_named
    from analysis.made import MADE

    if arguments.name == "list":
        titles = {name: layout.title for name, layout in LAYOUTS.items()} | {n: each.title for n, each in MADE.items()}
        titles["custom"] = "rows, columns and metrics by name: --rows, --columns, --metrics"
        return "".join(f"{name:<18}{title}\n" for name, title in titles.items())
    given = (arguments.rows, arguments.columns, arguments.metrics, arguments.differences, arguments.baseline)
    layout: Layout | None = None
    if arguments.name == "custom":
        layout = custom_layout(*given)
    elif any(given):
        flags = "--rows, --columns, --metrics, --differences, --baseline"
        raise ValueError(f"{flags}: only for the table custom, not {arguments.name}")
    elif arguments.name not in MADE:
        layout = layout_named(arguments.name)
    from analysis.build import build
    from analysis.render import render
    from analysis.runs import load_runs

    options = {"group": arguments.group} if arguments.group else {}
    runs = load_runs(arguments.source, **options)
    noises = sorted(runs.runs["noise"].dropna().unique())
    if arguments.baseline not in (None, *noises):
        raise ValueError(
            f"--baseline {arguments.baseline}: no finished run of that noise; there are {', '.join(noises)}"
        )
    return render(build(runs, layout) if layout else MADE[arguments.name].make(runs), arguments.format)


def _compare(arguments: argparse.Namespace) -> str:
    from analysis.compare import compare
    from analysis.render import render

    return render(compare(arguments.first, arguments.second, arguments.source), arguments.format)


def _status(arguments: argparse.Namespace) -> str:
    from analysis.render import render
    from analysis.status import status

    return render([status(arguments.source)], arguments.format)


def _dashboard(arguments: argparse.Namespace) -> str:
    from analysis.runs import load_runs

    try:
        from analysis.dashboard import save, specification, workspace
    except ImportError as error:
        raise ValueError(f"dashboard: {error}; pip install 'noise-harness[dashboard]' brings it") from error
    found = workspace(arguments.project, load_runs(arguments.source or arguments.project))
    return specification(found) if arguments.spec else f"{save(found)}\n"


def _notebooks(arguments: argparse.Namespace) -> str:
    try:
        from analysis.execute import execute
    except ImportError as error:
        raise ValueError(f"notebooks: {error}; pip install 'noise-harness[notebooks]' brings it") from error
    chosen = arguments.only.split(",") if arguments.only else ()
    return "".join(f"wrote {page}\n" for page in execute(arguments.source, Path(arguments.folder), chosen))


def _figures(arguments: argparse.Namespace) -> str:
    try:
        from analysis.figures import FIGURES, write_figures
    except ImportError as error:
        raise ValueError(f"figures: {error}; {_EXTRA}") from error
    from analysis.runs import load_runs

    if arguments.only == "list":
        return "".join(f"{name:<20}needs {kind.needs}\n" for name, kind in FIGURES.items())
    names = tuple(arguments.only.split(",")) if arguments.only else tuple(FIGURES)
    return write_figures(load_runs(arguments.source), arguments.folder, names, arguments.width)


def _report(arguments: argparse.Namespace) -> str:
    try:
        from analysis.report import write_report
    except ImportError as error:
        raise ValueError(f"report: {error}; {_EXTRA}") from error
    options = {"group": arguments.group} if arguments.group else {}
    return write_report(arguments.source, arguments.page, arguments.max_mb, arguments.title, arguments.note, **options)


if __name__ == "__main__":
    sys.exit(main())
