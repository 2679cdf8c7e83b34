"""`python -m analysis table`: a table by name, or one of settings and metrics by name."""

from __future__ import annotations

import argparse

from analysis.commands.options import add_format, add_sources, selection

_CUSTOM = ("rows", "columns", "metrics", "differences", "baseline")


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", default="ablation", metavar="NAME", help="a table; list prints all names")
    add_sources(command)
    custom = command.add_argument_group(
        "the table custom", "comma-separated names of settings (noise, train.lr) and metrics"
    )
    custom.add_argument("--rows", metavar="SETTINGS")
    custom.add_argument("--columns", metavar="SETTING", help="one group of columns per value")
    custom.add_argument("--metrics", metavar="METRICS", help="names or patterns, such as probe/*")
    custom.add_argument("--differences", metavar="METRICS", help="metrics to compare (default: win rate)")
    custom.add_argument("--baseline", metavar="NOISE", help="noise of the baseline runs (default: none)")
    add_format(command)


def run(arguments: argparse.Namespace) -> str:
    """The table in the format that was asked for."""
    from analysis.render.formats import render
    from analysis.sources.runs import load_runs, made_of_readable
    from analysis.tables.build import build
    from analysis.tables.computed.registry import COMPUTED
    from analysis.tables.layouts import custom_layout, layout_named

    if arguments.name == "list":
        return _names()
    given = [getattr(arguments, name) for name in _CUSTOM]
    if arguments.name != "custom" and any(given):
        flags = ", ".join(f"--{name}" for name in _CUSTOM)
        raise ValueError(f"{flags}: only for the table custom, not {arguments.name}")
    if arguments.name in COMPUTED:
        runs = load_runs(arguments.source, **selection(arguments))
        return render(made_of_readable(runs, COMPUTED[arguments.name].make), arguments.format)
    layout = custom_layout(*given) if arguments.name == "custom" else layout_named(arguments.name)
    runs = load_runs(arguments.source, **selection(arguments))
    noises = sorted(runs.runs["noise"].dropna().unique())
    if arguments.baseline not in (None, *noises):
        raise ValueError(
            f"--baseline {arguments.baseline}: no finished run of that noise; there are {', '.join(noises)}"
        )
    return render(made_of_readable(runs, lambda runs: build(runs, layout)), arguments.format)


def _names() -> str:
    from analysis.tables.computed.registry import COMPUTED
    from analysis.tables.layouts import LAYOUTS, installed_layouts

    titles = {name: layout.title for name, layout in (LAYOUTS | installed_layouts()).items()}
    titles |= {name: table.title for name, table in COMPUTED.items()}
    titles["custom"] = "your own rows, columns and metrics: --rows, --columns, --metrics"
    return "".join(f"{name:<18}{title}\n" for name, title in titles.items())
