"""Ask a judge about many pairs: stored verdicts are not asked again, new ones are saved at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.config import Config, JudgeConfig
from harness.data import load_eval_items
from harness.judge.annotations import order_is_switched
from harness.judge.base import Comparison, Judge, Verdict
from harness.judge.judges.registry import load_judge
from harness.judge.ledger import BooksCalls
from harness.judge.store import VerdictStore, store_path

HOPELESS = 20
"""After this many unparsed verdicts and no parsed one, it makes no sense to go on."""

SAME = Verdict(1.5, raw="identical outputs")


def ask(
    judge: Judge,
    pairs: Sequence[Comparison],
    store: Path,
    advance: Callable[..., None] = lambda *_, **__: None,
    max_unparsed: float = 1.0,
) -> list[Verdict]:
    """One verdict per pair, in the order of `pairs`.

    A pair asked in both orders gets the mean of the two preferences, and none if one reply could not be parsed: a
    single order would bring the judge's position bias back. Identical outputs draw unasked, as in alpaca_eval.

    Args:
        judge: the judge; a free one is asked about everything and does not use the store.
        pairs: comparisons, not yet switched.
        store: file of the verdict store.
        advance: called as advance(pairs settled, usd=..., unparsed=...) for a progress bar.
        max_unparsed: largest share of pairs that may end without a verdict.

    Raises:
        ValueError or OSError: the judge refused or stopped, none of the (first) replies could be parsed, or too many
            could not. Verdicts that were paid for are in the store.
    """
    if judge.free:
        verdicts = dict(verdict for batch in judge.verdicts(pairs) for verdict in batch)
        advance(len(pairs))
        return [verdicts[position] for position in range(len(pairs))]
    asked = [(number, question) for number, pair in enumerate(pairs) for question in questions(judge, pair)]
    answers = _answers(judge, [question for _, question in asked], store, advance)
    if answers and all(verdict.preference is None for verdict in answers):
        raise _unparsed(judge, answers)
    per_pair: dict[int, list[Verdict]] = {}
    for (number, _), verdict in zip(asked, answers, strict=True):
        per_pair.setdefault(number, []).append(verdict)
    merged = [merge(per_pair[number]) if number in per_pair else SAME for number in range(len(pairs))]
    _check_share(judge, merged, max_unparsed, store)
    return merged


def _check_share(judge: Judge, verdicts: Sequence[Verdict], allowed: float, store: Path) -> None:
    """Refuse too many rows without a verdict: all metrics leave them out, so the rest would be a biased sample."""
    without = [verdict for verdict in verdicts if verdict.preference is None]
    if not without or len(without) <= allowed * len(verdicts):
        return
    raise ValueError(
        f"judge {judge.identity.name}: {len(without)} of {len(verdicts)} pairs have no verdict, more than "
        f"judge.max_unparsed={allowed:g} allows; the last such reply is {without[-1].raw[-200:]!r}. Verdicts are kept "
        f"in {store}; repeat the command to ask for the missing ones only. If they stay missing, give the judge "
        "more room (judge.max_tokens) or less to say (see judge.parse, judge.tag), or allow a larger judge.max_unparsed"
    )


def merge(verdicts: Sequence[Verdict]) -> Verdict:
    """Combine the verdicts on one pair from each order asked."""
    if len(verdicts) == 1:
        return verdicts[0]
    known = [verdict.preference for verdict in verdicts if verdict.preference is not None]
    return Verdict(
        sum(known) / len(known) if len(known) == len(verdicts) else None,
        " | ".join(verdict.raw for verdict in verdicts),
        sum(verdict.usd for verdict in verdicts),
        sum(verdict.seconds for verdict in verdicts),
        sum(verdict.calls for verdict in verdicts),
        ", ".join(sorted({verdict.served for verdict in verdicts if verdict.served})),
    )


def questions(judge: Judge, pair: Comparison) -> Iterator[Comparison]:
    """The pair in each order to ask about; none if both answers are the same."""
    if pair.output_1 == pair.output_2:
        return
    orders = (order_is_switched(pair.instruction),) if judge.orders is None else judge.orders
    for switched in orders:
        yield replace(pair, switched=switched)


def _answers(judge: Judge, wanted: list[Comparison], path: Path, advance: Callable[..., None]) -> list[Verdict]:
    """One verdict per question, from the store or from the judge."""
    with VerdictStore(path) as store:
        verdicts = store.load(judge.identity, wanted)
        advance(len(verdicts))
        pending = [position for position in range(len(wanted)) if position not in verdicts]
        if pending:
            asked = [wanted[position] for position in pending]
            judge.check_budget(asked, *store.spent(judge.identity))
            store.register(judge.identity)
            if isinstance(judge, BooksCalls):
                judge.open_account(store)
            for position, verdict in _fresh(judge, asked, store, advance):
                verdicts[pending[position]] = verdict
    return [verdicts[position] for position in range(len(wanted))]


def _fresh(
    judge: Judge, asked: list[Comparison], store: VerdictStore, advance: Callable[..., None]
) -> Iterator[tuple[int, Verdict]]:
    usd, count, unparsed = 0.0, 0, 0
    arriving: Any = judge.verdicts(asked)
    with closing(arriving):
        for batch in arriving:
            kept = [(asked[position], verdict) for position, verdict in batch]
            store.save(judge.identity, kept, booked=isinstance(judge, BooksCalls))
            usd, count = usd + sum(verdict.usd for _, verdict in batch), count + len(batch)
            unparsed += sum(verdict.preference is None for _, verdict in batch)
            advance(len(batch), usd=f"{usd:.4f}", unparsed=str(unparsed))
            if unparsed == count >= HOPELESS:
                raise _unparsed(judge, [verdict for _, verdict in batch], count)
            yield from batch


def _unparsed(judge: Judge, verdicts: Sequence[Verdict], count: int | None = None) -> ValueError:
    return ValueError(
        f"judge {judge.identity.name}: none of the first {count or len(verdicts)} replies could be parsed, the last is "
        f"{verdicts[-1].raw[:200]!r}; check the judge's model, prompt, labels and parse"
    )


def check_budgets(configs: Sequence[Config]) -> None:
    """Refuse limits that do not cover the verdicts on all answers that these runs will give.

    Those answers are not known yet; the references are used instead, so costs are an estimate, and the stage `judge`
    checks each run against the limits again.

    Raises:
        ValueError: judge.max_calls or judge.max_usd is too small, or a priced judge has no limit.
    """
    for settings, store, runs in _alike(configs):
        judge = load_judge(settings, False, Path("."))
        if not judge.free:
            asked = [question for run in runs for question in _expected(judge, run)]
            judge.check_budget(asked, *_spent(judge, store))


def _alike(configs: Sequence[Config]) -> list[tuple[JudgeConfig, Path, list[Config]]]:
    """Runs that share a judge and a verdict store."""
    groups: list[tuple[JudgeConfig, Path, list[Config]]] = []
    for config in configs:
        key = (config.judge, store_path(config))
        runs = next((runs for *shared, runs in groups if tuple(shared) == key), None)
        if runs is None:
            runs = []
            groups.append((*key, runs))
        runs.append(config)
    return groups


def _expected(judge: Judge, config: Config) -> Iterator[Comparison]:
    for item in load_eval_items(config.eval_set):
        for number in range(1, config.generate.samples + 1):
            # The blanks keep answers apart: identical ones would draw without a call.
            answer = item.reference + " " * number
            yield from questions(judge, Comparison(item.text, item.reference, answer, gold=item.reference))


def _spent(judge: Judge, path: Path) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    with VerdictStore(path) as store:
        return store.spent(judge.identity)
