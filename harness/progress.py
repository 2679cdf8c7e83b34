"""One progress line per stage of a run: a moving bar in a terminal, a line every ten seconds in a log file."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm

_LOG_FILE_SECONDS = 10.0


class _Lines:
    """stderr for a log file: a line per update instead of a carriage return."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class Progress:
    """Counts `unit`s up to `total` on stderr, with rate, time left and any figures given to `update`."""

    def __init__(self, label: str, total: int, unit: str, initial: int = 0) -> None:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=label,
            unit=unit,
            file=sys.stderr if terminal else _Lines(),
            dynamic_ncols=terminal,
            ncols=None if terminal else 140,
            mininterval=0.2 if terminal else _LOG_FILE_SECONDS,
            maxinterval=0.5 if terminal else 2 * _LOG_FILE_SECONDS,
            smoothing=0.1,
            ascii=not terminal,
        )

    def update(self, count: int = 1, **figures: str) -> None:
        """Count on; `figures` (loss, tokens/s) replace those shown."""
        if figures:
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update(count)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.close()
