"""`python -m analysis report`: one self-contained HTML page."""

from __future__ import annotations

import argparse

from analysis.commands.options import add_sources, extra, selection


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_sources(command)
    command.add_argument("-o", dest="page", default="report.html", metavar="FILE", help="default: report.html")
    command.add_argument("--max-mb", type=float, default=25.0, metavar="N", help="largest page; default: 25")
    command.add_argument("--title", default="", metavar="TEXT", help="heading of the page (default: the source)")
    command.add_argument("--note", default="", metavar="TEXT", help="question and result, shown at the top of the page")


def run(arguments: argparse.Namespace) -> str:
    """A line with the page's size and what was left out."""
    with extra("report", "report"):
        from analysis.report import write_report

    return write_report(
        arguments.source, arguments.page, arguments.max_mb, arguments.title, arguments.note, **selection(arguments)
    )
