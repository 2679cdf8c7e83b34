"""The store of verdicts beneath the stage `judge`: nothing is asked twice, nothing paid for is lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.judge.ask import ask, merge
from harness.judge.base import Batch, Comparison, Identity, NoBudget, Verdict
from harness.judge.store import VerdictStore


class CountingJudge(NoBudget):
    """Prefers what is shown second, 35 verdicts at a time; counts what it was asked; may break off."""

    free = False
    orders: tuple[bool, ...] | None = (False, True)

    def __init__(self, name: str = "counting", dies_at: int | None = None) -> None:
        self.identity = Identity(name)
        self.asked = 0
        self._dies_at = dies_at

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        for start in range(0, len(comparisons), 35):
            if self.asked == self._dies_at:
                raise ConnectionError("gone")
            batch = [(n, comparisons[n]) for n in range(start, min(start + 35, len(comparisons)))]
            self.asked += len(batch)
            yield [(n, Verdict(comparison.preference_of_second(1.0), calls=1, usd=0.5)) for n, comparison in batch]


def pairs(count: int) -> list[Comparison]:
    return [Comparison(f"Question {n}", f"reference {n}", f"answer {n}") for n in range(count)]


def test_a_crash_at_call_700_of_805_costs_nothing(tmp_path: Path) -> None:
    first = CountingJudge(dies_at=700)
    first.orders = None
    with pytest.raises(ConnectionError):
        ask(first, pairs(805), tmp_path / "v.sqlite")
    second = CountingJudge()
    second.orders = None
    verdicts = ask(second, pairs(805), tmp_path / "v.sqlite")
    assert (first.asked, second.asked) == (700, 105)
    assert len(verdicts) == 805
    assert {verdict.usd for verdict in verdicts} == {0.5}


def test_a_killed_process_loses_nothing_that_it_saved(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from harness.judge.base import Comparison, Identity, Verdict
from harness.judge.judges.registry import check_judge
from harness.judge.store import VerdictStore
with VerdictStore(Path({str(tmp_path / "v.sqlite")!r})) as store:
    for n in range(5):
        store.save(Identity("j"), [(Comparison(f"q{{n}}", "a", "b"), Verdict(1.0, calls=1))])
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 9
    with VerdictStore(tmp_path / "v.sqlite") as store:
        assert store.spent(Identity("j")).calls == 5


def test_processes_share_a_store(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from harness.judge.base import Comparison, Identity, Verdict
from harness.judge.judges.registry import check_judge
from harness.judge.store import VerdictStore
with VerdictStore(Path(sys.argv[1])) as store:
    for n in range(20):
        store.save(Identity("j"), [(Comparison(f"q{n}", sys.argv[2], "b"), Verdict(1.0, calls=1))])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "v.sqlite")]
    processes = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    with VerdictStore(tmp_path / "v.sqlite") as store:
        assert store.spent(Identity("j")).calls == 60


@pytest.mark.parametrize(
    "changed",
    [
        Comparison("Q", "a", "b"),
        Comparison("q ", "a", "b"),
        Comparison("q", "b", "a"),
        Comparison("q", "a", "b", switched=True),
        Comparison("q", "a", "b", gold="g"),
        Comparison("q", "ab", ""),
    ],
)
def test_the_store_tells_comparisons_and_judges_apart(changed: Comparison, tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        store.save(Identity("j"), [(Comparison("q", "a", "b"), Verdict(1.25, "A", 0.1, 2.0, 1, "m"))])
        assert store.load(Identity("j"), [Comparison("q", "a", "b")]) == {0: Verdict(1.25, "A", 0.1, 2.0, 1, "m")}
        assert store.load(Identity("j"), [changed]) == {}
        for other in (Identity("j", "m"), Identity("j", "", "p"), Identity("j", "", "", {"t": 1})):
            assert store.load(other, [Comparison("q", "a", "b")]) == {}


def test_an_unparsed_verdict_is_asked_again_and_its_cost_stays(tmp_path: Path) -> None:
    asked, judge_id = Comparison("q", "a", "b"), Identity("j")
    with VerdictStore(tmp_path / "v.sqlite") as store:
        store.save(judge_id, [(asked, Verdict(None, "eh", 0.25, 1.0, 3))])
        assert store.load(judge_id, [asked]) == {}
        store.save(judge_id, [(asked, Verdict(2.0, "B", 0.25, 1.0, 1))])
        assert store.load(judge_id, [asked]) == {0: Verdict(2.0, "B", 0.5, 2.0, 4)}
        assert store.spent(judge_id) == (4, 0.5)


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.sqlite").write_text("hello " * 500)
    with pytest.raises(ValueError, match=r"judge.store=.*v.sqlite: not a store of verdicts"):
        VerdictStore(tmp_path / "v.sqlite")


def test_who_judged_is_in_the_store(tmp_path: Path) -> None:
    ask(CountingJudge(), pairs(1), tmp_path / "v.sqlite")
    with sqlite3.connect(tmp_path / "v.sqlite") as connection:
        rows = connection.execute("SELECT name FROM judges").fetchall()
    connection.close()
    assert rows == [("counting",)]


def test_both_orders_are_averaged_and_one_unparsed_order_leaves_no_verdict() -> None:
    whole = merge([Verdict(1.5, "A", 0.1, 1.0, 1, "m"), Verdict(2.0, "B", 0.2, 2.0, 2, "m")])
    assert (whole.preference, whole.raw, whole.calls, whole.served) == (1.75, "A | B", 3, "m")
    assert whole.usd == pytest.approx(0.3)
    assert merge([Verdict(1.0), Verdict(None)]).preference is None


def test_identical_outputs_draw_unasked(tmp_path: Path) -> None:
    counting = CountingJudge()
    verdicts = ask(counting, [Comparison("q", "same", "same"), *pairs(1)], tmp_path / "v.sqlite")
    assert counting.asked == 2
    assert [verdict.preference for verdict in verdicts] == [1.5, 1.5]


def test_memory_is_flat_in_the_number_of_rows(tmp_path: Path) -> None:
    """What asking adds per row: a stored verdict, a key and a question; 10 kB would be the texts kept again."""
    many = [Comparison(f"Question {n}", "r" * 10_000, "a" * 10_000) for n in range(300)]
    judge_once = CountingJudge()
    judge_once.orders = None
    tracemalloc.start()
    ask(judge_once, many, tmp_path / "v.sqlite")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 3_000
