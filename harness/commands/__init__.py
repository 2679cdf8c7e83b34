"""`harness COMMAND` and `python -m harness COMMAND`: one entry point; a command's code is loaded on demand.

A first word without "=" is a command; settings alone (KEY=VALUE) mean `run`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Literal

Kind = Literal["run", "own", "module", "analysis"]


@dataclass(frozen=True)
class Command:
    """One line of help, where the code is, and how it is called.

    kind: "run" is Hydra's command line; "own" has `main(words, prog)` in this package; "module" likewise in the module
    named, which is `python -m MODULE` as well; "analysis" is a command of `python -m analysis`.
    """

    line: str
    kind: Kind
    module: str = ""


COMMANDS = {
    "run": Command("fine-tune, generate, judge and probe: one run, or a sweep with -m (default)", "run"),
    "status": Command("show the progress of a sweep, and why runs failed", "analysis"),
    "table": Command("print a table of finished runs", "analysis"),
    "figures": Command("draw figures of finished runs", "analysis"),
    "report": Command("write one HTML page with tables, figures, runs and answers", "analysis"),
    "compare": Command("compare two runs: settings that differ, and results", "analysis"),
    "finding": Command("summarise what the runs show about each noise, in one sentence", "analysis"),
    "notebooks": Command("execute the notebooks on runs, into .ipynb and .html", "analysis"),
    "dashboard": Command("save a W&B workspace with panels by noise and alpha", "analysis"),
    "data": Command("show examples as the model sees them: tokens, loss and noise", "own"),
    "chat": Command("chat with the model of one run, or of two", "module", "harness.chat.__main__"),
    "export": Command("export a run's model as a folder for the Hub", "module", "harness.export.__main__"),
    "judge": Command(
        "work with annotation files: score, audit, leaderboard, lengths", "module", "harness.judge.__main__"
    ),
    "doctor": Command("check this machine: packages, GPUs, disk space, keys", "own"),
    "schema": Command("write JSON Schemas of the YAML files, for editors", "own"),
    "completion": Command("print the completion script for bash, zsh or fish", "own"),
}


def usage(prog: str) -> str:
    """The help of the whole command."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command.line}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {prog} COMMAND ...",
            f"       {prog} [run] [-m] [KEY=VALUE ...]",
            "",
            "Fine-tune models with embedding noise, and compare the results.",
            "",
            *lines,
            "",
            f"{prog} run --help lists all groups and keys, {prog} COMMAND --help the options of a command.",
            f"{prog} -m noise=symnoise,neftune alpha=1,5,10 runs a sweep of six runs.",
        ]
    )


def named(word: str) -> bool:
    """Whether a first word is a command: neither a setting nor an option."""
    return "=" not in word and not word.startswith(("-", "+", "~"))


def dispatch(words: Sequence[str], prog: str) -> int:
    """Run the command `words[0]`; its exit status.

    Raises:
        ValueError: there is no such command.
    """
    name, rest = words[0], list(words[1:])
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"{name}: no such command{meant}; there are {', '.join(COMMANDS)}; settings are KEY=VALUE")
    command = COMMANDS[name]
    if command.kind == "run":
        sys.argv[1:] = rest
        status = import_module("harness.cli").main()
    elif command.kind == "analysis":
        status = import_module("analysis.__main__").main([name, *rest], prog)
    else:
        module = command.module or f"harness.commands.{name}"
        status = import_module(module).main(rest, f"{prog} {name}")
    return int(status or 0)
