"""One line per run: it moves in a terminal, is repeated every ten seconds in a log file, and ends as a summary."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tqdm import tqdm

LINES = "HARNESS_PROGRESS_LINES"  # set when several runs share a terminal, so that none overwrites another's line
_LOG_FILE_SECONDS = 10.0
# 80 columns hold the longest: "[12/21] symnoise-a10-s2 generate 45% 512/1150, 00:06 left, tokens/s 9012".
_SCREEN_FORMAT = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt}, {remaining} left{postfix}"
_LOG_FILE_FORMAT = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} {unit}, {elapsed} gone, {remaining} left{postfix}"


class _Lines:
    """stderr for a log file: a line per update instead of a carriage return, or whatever `show` does."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        self._show = show or (lambda line: sys.stderr.write(line + "\n"))

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._show(line)

    def flush(self) -> None:
        sys.stderr.flush()


class Progress:
    """Counts `unit`s up to `total` on stderr, with rate, time left and any figures given to `update`."""

    def __init__(self, label: str, total: int, unit: str, initial: int = 0, show: bool = True) -> None:
        terminal = sys.stderr.isatty() and LINES not in os.environ
        # In a worker, the parent shows the line (harness/pipeline/side_by_side.py).
        shown = getattr(sys.stderr, "status", None)
        seconds = getattr(sys.stderr, "seconds", _LOG_FILE_SECONDS)
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=label,
            unit=_plural(unit),
            file=sys.stderr if terminal else _Lines(shown),
            dynamic_ncols=terminal,
            bar_format=_SCREEN_FORMAT if terminal or shown else _LOG_FILE_FORMAT,
            mininterval=0.2 if terminal else seconds,
            maxinterval=0.5 if terminal else 2 * seconds,
            delay=0 if terminal else seconds,
            smoothing=0.1,
            leave=False,
            disable=not show,
        )

    def update(self, count: int = 1, **figures: str) -> None:
        """Advance the count; `figures` (loss, tokens/s) replace those shown."""
        if figures:
            said = (f"{name.replace('_per_', '/')} {value}" for name, value in figures.items())
            self._bar.set_postfix_str(", ".join(said), refresh=False)
        self._bar.update(count)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.close()


def _plural(unit: str) -> str:
    return unit + ("es" if unit.endswith(("ch", "s", "sh")) else "s")


_FIGURES = {
    "train/loss": "loss {:.3f}",
    "eval/loss": "eval loss {:.3f}",
    "judge/accuracy": "accuracy {:.1f}%",
    "judge/win_rate": "win rate {:.1f}%",
    "train/tokens_per_second": "{:.0f} tokens/s",
}


def summary_line(label: str, summary: dict[str, Any], seconds: float) -> str:
    """The final line of a run."""
    final = summary["final"]
    shown = [key for key in _FIGURES if key in final]
    if "judge/accuracy" in shown:
        shown.remove("judge/win_rate")  # half of it, if a checker marks the answers
    figures = [_FIGURES[key].format(final[key]) for key in shown]
    return f"{label} {summary['status']} in {seconds:.0f} s: {', '.join(figures)}"
