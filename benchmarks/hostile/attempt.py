"""Runs one command on one hostile input in its own process, and classifies how it ended."""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HANDLED, ONE_LINE, TRACEBACK, HANG = "handled", "one line", "traceback", "hang"
OUTCOMES = (ONE_LINE, HANDLED, TRACEBACK, HANG)
_TRACE = ("Traceback (most recent call last)", "Fatal Python error")


@dataclass(frozen=True)
class Case:
    """A command, as typed after `python -m`, and its input.

    kind: row of the record. name: name of the input. arguments: the module first. cwd: working directory.
    """

    kind: str
    name: str
    arguments: Sequence[str]
    cwd: Path


@dataclass(frozen=True)
class Ending:
    """How a case ended: one of OUTCOMES, with exit status, seconds and everything written to stderr."""

    case: Case
    outcome: str
    status: int
    seconds: float
    said: str


def attempt(case: Case, limit: float) -> Ending:
    """Run the command in a fork of this process, which has its imports; killed after `limit` seconds."""
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(_obey(case, said.fileno()))
        status, hung = _wait(child, started + limit)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    seconds = time.monotonic() - started
    return Ending(case, HANG if hung else outcome(status, text), status, seconds, text)


def outcome(status: int, said: str) -> str:
    """The outcome, from the exit status and stderr.

    A refusal is status 1 or 2 with a single line "error: ..."; a usage line of argparse may stand before it.
    """
    if any(mark in said for mark in _TRACE) or status < 0:
        return TRACEBACK
    errors = [line for line in said.splitlines() if "error: " in line]
    if status == 0:
        return HANDLED
    return ONE_LINE if status in (1, 2) and len(errors) == 1 else TRACEBACK


def _wait(child: int, deadline: float) -> tuple[int, bool]:
    """Exit status (minus the signal, where one ended it), and whether it had to be killed."""
    while True:
        ended, how = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(how), False
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            _, how = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(how), True
        time.sleep(0.01)


def _obey(case: Case, said: int) -> int:
    """In the child: run the command with its arguments, folder, input and output; return its exit status."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for target, source in ((0, nothing), (1, nothing), (2, said)):
        os.dup2(source, target)
    # Whoever runs this may have put streams of its own in the place of these.
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", "replace") for number in (1, 2)
    )
    os.chdir(case.cwd)
    module, *arguments = case.arguments
    sys.argv = [f"python -m {module}", *arguments]
    try:
        found = _main(module)()
        return found if isinstance(found, int) else 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return 0 if end.code is None else end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 (it is what is looked for)
        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()


def _main(module: str) -> Callable[[], Any]:
    import importlib

    main: Callable[[], Any] = importlib.import_module(f"{module}.__main__").main
    return main
