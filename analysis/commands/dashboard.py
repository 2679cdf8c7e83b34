"""`python -m analysis dashboard`: save a W&B workspace for a project, or print its specification."""

from __future__ import annotations

import argparse

from analysis.commands.options import SOURCE, add_output, extra


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("project", metavar="ENTITY/PROJECT")
    command.add_argument(
        "--source", metavar="SOURCE", help=f"runs that determine the panels: {SOURCE} (default: the project's)"
    )
    command.add_argument("--spec", action="store_true", help="print the specification (JSON) and save nothing")
    add_output(command)


def run(arguments: argparse.Namespace) -> str:
    """The address of the saved workspace, or its specification."""
    with extra("dashboard", "dashboard"):
        from analysis.commands.workspace import save, specification, workspace
    from analysis.sources.runs import load_runs

    found = workspace(arguments.project, load_runs(arguments.source or arguments.project))
    return specification(found) if arguments.spec else f"{save(found)}\n"
