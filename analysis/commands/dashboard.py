"""`python -m analysis dashboard`: save a W&B workspace or report for a project, or print its specification."""

from __future__ import annotations

import argparse

from analysis.commands.options import SOURCE, add_output, extra


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("project", metavar="ENTITY/PROJECT")
    command.add_argument(
        "--source", metavar="SOURCE", help=f"runs that determine the panels: {SOURCE} (default: the project's)"
    )
    command.add_argument(
        "--report", action="store_true", help="a report with the findings and the ablation table, not a workspace"
    )
    command.add_argument("--spec", action="store_true", help="print the specification (JSON) and save nothing")
    add_output(command)


def run(arguments: argparse.Namespace) -> str:
    """The address of what was saved, or its specification."""
    with extra("dashboard", "dashboard"):
        from analysis.commands.boards import report, workspace
    from analysis.sources.runs import load_runs

    runs = load_runs(arguments.source or arguments.project)
    if arguments.report:
        made = report.report(arguments.project, runs)
        return report.specification(made) if arguments.spec else f"{report.save(made)}\n"
    board = workspace.workspace(arguments.project, runs)
    return workspace.specification(board) if arguments.spec else f"{workspace.save(board)}\n"
