"""Several runs on one screen: a moving line for each at the bottom, their messages above."""

from __future__ import annotations

import shutil
from typing import TextIO

_UP_AND_CLEAR = "\033[{}F\033[J"


class Display:
    """Status lines that are redrawn in place in a terminal; elsewhere everything is a separate line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._status: dict[int, str] = {}
        self._drawn = 0

    def status(self, row: int, text: str) -> None:
        """Replace a row's line; an empty text removes it."""
        self._status[row] = text
        if self._terminal:
            self._draw()
        elif text:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def line(self, text: str) -> None:
        """Print a line that stays, above the moving ones."""
        self._draw(f"{text}\n")

    def _draw(self, above: str = "") -> None:
        width = shutil.get_terminal_size().columns - 1
        moving = [text[:width] for _, text in sorted(self._status.items()) if text] if self._terminal else []
        erase = _UP_AND_CLEAR.format(self._drawn) if self._drawn else ""
        self._stream.write(erase + above + "".join(f"{text}\n" for text in moving))
        self._stream.flush()
        self._drawn = len(moving)
