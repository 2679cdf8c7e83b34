"""The account of a judge that costs money: every call is booked in the verdict store before it is made.

So judge.max_calls and judge.max_usd hold for all processes that share a store, and the calls of a killed process stay
on the account, because the server may charge for them.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.config import JudgeConfig
from harness.judge.base import Identity
from harness.judge.store import VerdictStore

_CENT_FRACTION = 1e-9  # sums of floats differ in their last digits


class Ledger(NamedTuple):
    """The account of one judge in one store; may be used from several threads."""

    store: VerdictStore
    judge: Identity
    config: JudgeConfig

    def book(self, usd: float, calls: int = 1) -> None:
        """Book calls with their highest possible cost, before they are made.

        Raises:
            ValueError: a limit does not allow them; nothing is booked then.
        """
        limits = self.config
        spent = self.store.book(self.judge, calls, usd, limits.max_calls, limits.max_usd, _CENT_FRACTION)
        if spent is None:
            return
        used = f"({spent.calls} calls and {spent.usd:.4f} USD are booked in {self.store.path}, with those under way)"
        too_many = limits.max_calls is not None and spent.calls + calls > limits.max_calls
        key = f"max_calls={limits.max_calls}" if too_many else f"max_usd={limits.max_usd:g}"
        raise ValueError(f"judge {limits.name}: judge.{key} are used up {used}; the verdicts so far are saved")

    def correct(self, usd: float = 0.0, calls: int = 0) -> None:
        """Correct a booking by the actual cost, or by a call that was never charged."""
        if usd or calls:
            self.store.book(self.judge, calls, usd)


class BooksCalls:
    """Mixin for judges that book their calls, up to the limits of their settings."""

    identity: Identity
    limits: JudgeConfig
    ledger: Ledger | None = None

    def open_account(self, store: VerdictStore) -> None:
        """Book in this store from now on; `ask` calls it before the first question."""
        self.ledger = Ledger(store, self.identity, self.limits)

    def book(self, usd: float, calls: int = 1) -> None:
        if self.ledger is not None:
            self.ledger.book(usd, calls)

    def correct(self, usd: float = 0.0, calls: int = 0) -> None:
        if self.ledger is not None:
            self.ledger.correct(usd, calls)
