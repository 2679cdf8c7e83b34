"""python -m harness.chat RUN [RUN] [--system TEXT]

Chat with the model of one run, or of two at once. Each uses its training prompt and the decoding of its evaluation.
/new starts over, /quit (or Ctrl-D) ends, Ctrl-C stops an answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.chat.talk import Talk


def main(words: Sequence[str] | None = None, prog: str = "harness.chat") -> None:
    """Entry point; exit status 2 on bad input, with one line."""
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="one or two run folders")
    parser.add_argument("--system", default="", help="a system message, if the prompt supports it")
    arguments = parser.parse_args(words)
    if len(arguments.runs) > 2:
        parser.error("give one run, or two to compare")
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()
    try:
        from harness.chat.talk import Talk

        talks = [Talk(run, arguments.system) for run in arguments.runs]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for talk in talks:
        memory = "" if talk.remembers else "; every question is asked on its own, as in training"
        print(f"{talk.name}: prompt {talk.prompt}{memory}", file=sys.stderr)
    converse(talks)


def converse(talks: Sequence[Talk]) -> None:
    """Read lines and answer them until the input ends."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line == "/quit":
            return
        if line == "/new":
            for talk in talks:
                talk.forget()
        elif line:
            for talk in talks:
                _answer(talk, line, named=len(talks) > 1)


def _answer(talk: Talk, line: str, named: bool) -> None:
    if named:
        print(f"[{talk.name}]")
    pieces = talk.ask(line)
    try:
        for piece in pieces:
            print(_visible(piece), end="", flush=True)
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
        print(" ...", end="")
    except ValueError as error:
        print(f"error: {error}; /new starts over", file=sys.stderr)
    print()


def _visible(text: str) -> str:
    """The text without control characters: a model may write escape sequences."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)


if __name__ == "__main__":
    main()
