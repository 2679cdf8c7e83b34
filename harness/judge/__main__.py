"""`python -m harness.judge COMMAND`: score, audit and compare annotation files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from harness.judge import audit, leaderboard, lengths, score
from harness.record.escape import escape_controls


def main(arguments: Sequence[str] | None = None, prog: str = "python -m harness.judge") -> int:
    """Run a sub-command; exit status 0, or 2 with one line on standard error for bad input."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    score.add_parser(commands)
    audit.add_parser(commands)
    leaderboard.add_parser(commands)
    lengths.add_parser(commands)
    parsed, rest = parser.parse_known_args(arguments)
    # argparse gives up on judge=... once an option such as --sample stands before it.
    if not hasattr(parsed, "overrides") or any(word.startswith("-") or "=" not in word for word in rest):
        parser.parse_args(arguments)
    else:
        parsed.overrides = [*parsed.overrides, *rest]
    try:
        parsed.function(parsed)
    except ModuleNotFoundError as error:
        print(f"error: {error}; install the extra `judge`", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"error: {escape_controls(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
