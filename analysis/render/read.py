"""Tables that were written before, read back: those of the lab book, and whatever `--format csv` gave."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.metrics.names import current_header


def read_table(path: str | Path) -> pd.DataFrame:
    """A table of any version as text, under today's headers: what is empty is "".

    Raises:
        ValueError: no CSV file with a row of headers.
    """
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a table in CSV: {error}") from error
    return found.rename(columns=current_header)
