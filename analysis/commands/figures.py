"""`python -m analysis figures`: the figures of finished runs as files."""

from __future__ import annotations

import argparse

from analysis.commands.options import add_sources, extra, selection


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_sources(command)
    command.add_argument("-o", dest="folder", default="figures", metavar="FOLDER", help="default: figures")
    command.add_argument("--only", metavar="NAMES", help="comma-separated names; list prints them")
    command.add_argument(
        "--width", type=float, default=6.75, metavar="INCHES", help="3.3: one column of a two-column page"
    )


def run(arguments: argparse.Namespace) -> str:
    """One line per figure written, and per reason why others were not."""
    with extra("figures", "report"):
        from analysis.figures import FIGURES, write_figures
    from analysis.sources.runs import load_runs, made_of_readable
    from analysis.suggest import listed

    if arguments.only == "list":
        return "".join(f"{name:<20}needs {kind.needs}\n" for name, kind in FIGURES.items())
    names = listed(arguments.only or "") or tuple(FIGURES)
    runs = load_runs(arguments.source, **selection(arguments))
    return made_of_readable(runs, lambda runs: write_figures(runs, arguments.folder, names, arguments.width))
