"""`python -m analysis notebooks`: execute the package's notebooks on a source of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands.options import SOURCE, extra


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="?", default="runs", metavar="SOURCE", help=f"{SOURCE} (default: runs)")
    command.add_argument("-o", dest="folder", default="notebooks", metavar="FOLDER", help="default: notebooks")
    command.add_argument("--only", metavar="NAMES", help="comma-separated names")


def run(arguments: argparse.Namespace) -> str:
    """One line per page written."""
    with extra("notebooks", "notebooks"):
        from analysis.commands.execute import execute
    from analysis.suggest import listed

    names = listed(arguments.only or "")
    return "".join(f"wrote {page}\n" for page in execute(arguments.source, Path(arguments.folder), names))
