"""`python -m analysis finding`: what the runs show about each noise, in a sentence."""

from __future__ import annotations

import argparse

from analysis.commands.options import add_output, add_sources, selection


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_sources(command)
    add_output(command)


def run(arguments: argparse.Namespace) -> str:
    """One line per noise."""
    from analysis.sources.runs import load_runs, made_of_readable
    from analysis.study.finding import findings, without_baseline

    runs = load_runs(arguments.source, **selection(arguments))
    if without_baseline(runs):
        return "nothing to compare with: no finished run has noise=none\n"
    return (
        "".join(f"{finding}\n" for finding in made_of_readable(runs, findings))
        or "nothing to compare: no noise with a baseline\n"
    )
