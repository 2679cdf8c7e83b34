"""Every verdict of every judge, in one SQLite file that the runs of a sweep share.

A row is keyed by the judge's identity, the instruction, both answers and the order shown, so that another judge,
prompt or decoding never reuses old verdicts and no pair is paid for twice. Verdicts are committed as they arrive and
survive a crash. The file keeps SQLite's rollback journal (WAL would not work over a network file
system).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from harness.config import Config
from harness.judge.base import Comparison, Identity, Verdict, content_hash

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS judges (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, model TEXT NOT NULL, prompt_hash TEXT NOT NULL, decoding TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS verdicts (
        judge TEXT NOT NULL, comparison TEXT NOT NULL,
        preference REAL, raw TEXT NOT NULL, usd REAL NOT NULL, seconds REAL NOT NULL, calls INTEGER NOT NULL,
        served TEXT NOT NULL, saved_at REAL NOT NULL,
        PRIMARY KEY (judge, comparison)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS spending (
        judge TEXT PRIMARY KEY, calls INTEGER NOT NULL, usd REAL NOT NULL
    ) STRICT""",
    # In a store older than the table of spending, the cost is taken from the verdicts.
    """INSERT OR IGNORE INTO spending SELECT judge, sum(calls), sum(usd) FROM verdicts GROUP BY judge""",
)
_IS_COMPLETE = "SELECT 1 FROM sqlite_master WHERE name = 'spending'"
_BUSY_SECONDS = 60.0


def store_path(config: Config) -> Path:
    """The file of a run's verdicts: judge.store, else one file for all runs of an output folder."""
    default = Path(config.output_dir) / "verdicts.sqlite"
    return Path(config.judge.store or default).expanduser()


class Spent(NamedTuple):
    """What a judge has cost so far, including unparsed replies, calls in flight and those of killed processes."""

    calls: int
    usd: float


class VerdictStore:
    """Use as a context manager; several processes may have the same file open, and several threads one store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if self._connection.execute(_IS_COMPLETE).fetchone() is None:
                with self._transaction():
                    for statement in _SCHEMA:
                        self._connection.execute(statement)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ValueError(f"judge.store={path}: not a store of verdicts: {error}") from error

    def __enter__(self) -> VerdictStore:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()

    def register(self, judge: Identity) -> None:
        """Record the identity behind a judge's id."""
        row = (judge.id, judge.name, judge.model, judge.prompt_hash, judge.canonical_decoding)
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO judges VALUES (?, ?, ?, ?, ?)", row)

    def load(self, judge: Identity, comparisons: Iterable[Comparison]) -> dict[int, Verdict]:
        """The stored verdicts by position; a comparison whose reply could not be parsed counts as not stored."""
        query = (
            "SELECT preference, raw, usd, seconds, calls, served FROM verdicts "
            "WHERE judge = ? AND comparison = ? AND preference IS NOT NULL"
        )
        found: dict[int, Verdict] = {}
        with closing(self._connection.cursor()) as cursor:
            for position, comparison in enumerate(comparisons):
                row = cursor.execute(query, (judge.id, comparison_key(comparison))).fetchone()
                if row is not None:
                    found[position] = Verdict(*row)
        return found

    def save(self, judge: Identity, verdicts: Iterable[tuple[Comparison, Verdict]], booked: bool = False) -> None:
        """Save verdicts in one transaction, adding the cost of earlier, unparsed replies to the same comparison.

        Args:
            judge: the judge.
            verdicts: the verdicts with their comparisons.
            booked: whether their cost is already on the account.
        """
        verdicts = list(verdicts)
        rows = [
            (judge.id, comparison_key(comparison), *_columns(verdict), time.time()) for comparison, verdict in verdicts
        ]
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "preference = coalesce(excluded.preference, preference), raw = excluded.raw, served = excluded.served, "
                "usd = usd + excluded.usd, seconds = seconds + excluded.seconds, calls = calls + excluded.calls, "
                "saved_at = excluded.saved_at",
                rows,
            )
            if not booked:
                self._add(judge, sum(verdict.calls for _, verdict in verdicts), sum(v.usd for _, v in verdicts))

    def book(
        self,
        judge: Identity,
        calls: int,
        usd: float,
        max_calls: int | None = None,
        max_usd: float | None = None,
        tolerance: float = 0.0,
    ) -> Spent | None:
        """Add to what a judge has spent, unless that would exceed a limit; then return what it has spent.

        Two processes never both get the last call: checking and adding are one transaction.
        """
        with self._transaction():
            spent = self.spent(judge)
            too_many = max_calls is not None and spent.calls + calls > max_calls
            if too_many or (max_usd is not None and spent.usd + usd > max_usd + tolerance):
                return spent
            self._add(judge, calls, usd)
            return None

    def _add(self, judge: Identity, calls: int, usd: float) -> None:
        self._connection.execute(
            "INSERT INTO spending VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, "
            "usd = max(usd + excluded.usd, 0.0)",
            (judge.id, calls, usd),
        )

    def spent(self, judge: Identity) -> Spent:
        """Calls and USD of one judge over all runs that share this file."""
        with self._lock:
            row = self._connection.execute("SELECT calls, usd FROM spending WHERE judge = ?", (judge.id,)).fetchone()
        return Spent(*row) if row else Spent(0, 0.0)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Take the write lock at once, so that two processes wait for each other instead of failing halfway."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def _columns(verdict: Verdict) -> tuple[float | int | str | None, ...]:
    numbers = (verdict.usd, verdict.seconds, verdict.calls)
    return (verdict.preference, verdict.raw, *numbers, verdict.served)


def comparison_key(comparison: Comparison) -> str:
    """SHA-256 over the instruction, both answers, the gold answer and the order shown (hex)."""
    order = "switched" if comparison.switched else "plain"
    return content_hash(comparison.instruction, comparison.output_1, comparison.output_2, comparison.gold, order)
