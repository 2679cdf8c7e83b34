"""The papers' claims tested with these runs: each as one paired comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis import stats
from analysis.render.table import Column, Table, Value
from analysis.sources.runs import Runs
from analysis.stats import Estimate
from analysis.study.baseline import by_seed
from analysis.study.comparable import plain_name
from analysis.study.measures import Measures
from analysis.study.metrics import metric, unit_of_difference
from analysis.study.rows import TableRow
from analysis.study.verdicts import FEWEST_SEEDS, Comparison, Decision, decide
from analysis.tables.computed.per_study import per_study
from harness.metrics.names import LENGTH, WIN_RATE

_LEAST, _MOST = 5, 15  # the alphas that the papers report
AGREE, CONTRADICT, NOT_RUN = "agrees", "contradicts", "not run"


@dataclass(frozen=True)
class Claim:
    """`noise` changes `metric` against `base` by `sign` (1: it is larger), as `source` says."""

    noise: str
    sign: int
    base: str
    metric: str
    source: str

    def text(self, noise: str, base: str) -> str:
        return f"{noise} {'>' if self.sign > 0 else '<'} {base}: {metric(self.metric).header}"


_NEFTUNE, _SYMNOISE = "NEFTune 2310.05914", "SymNoise 2312.01523"
CLAIMS = (
    Claim("neftune", 1, "none", WIN_RATE, f"{_NEFTUNE} Fig. 2"),
    Claim("symnoise", 1, "none", WIN_RATE, f"{_SYMNOISE} Table 1"),
    Claim("symnoise", 1, "neftune", WIN_RATE, f"{_SYMNOISE} Table 1"),
    Claim("neftune", 1, "gaussian", WIN_RATE, f"{_NEFTUNE} Table 6"),
    Claim("neftune", 1, "freelb", WIN_RATE, f"{_NEFTUNE} Table 12"),
    Claim("gaussian", -1, "gaussian_matched", WIN_RATE, "SymNoise 2605.23171"),
    Claim("neftune", 1, "none", LENGTH, f"{_NEFTUNE} Table 6"),
    Claim("neftune", 1, "none", "probe/train/loss", f"{_NEFTUNE} Fig. 4"),
    Claim("neftune", -1, "none", "eval/loss", f"{_NEFTUNE} Fig. 4"),
    Claim("neftune", -1, "none", "probe/train/rouge_l", f"{_NEFTUNE} Fig. 5"),
    Claim("symnoise", -1, "none", "probe/slope/rademacher/5", f"{_SYMNOISE}, its motive"),
    Claim("symnoise", -1, "neftune", "probe/slope/rademacher/5", f"{_SYMNOISE}, its motive"),
)


@dataclass(frozen=True)
class _Test:
    claim: Claim
    text: str
    alpha: str
    found: Estimate
    base: str
    control: list[str]


def claims(runs: Runs) -> list[Table]:
    """A table per set of comparable runs: a row for each claim and alpha, and whether the runs agree with it.

    At the alphas of the papers, 5 to 15; two noises are compared at the same alpha, by seed and, for win rates, by
    instruction. Undecided is not refuted: the minimum detectable effect is the true difference that four of five such
    experiments would have detected.

    Raises:
        ValueError: there is no finished run.
    """
    heads = [
        *(Column(header, is_text=True) for header in ("source", "alpha", "runs")),
        Column("difference", decimals=None, signed=True),
        Column("unit", is_text=True),
        Column("p (Holm)", smallest=0.001),
        Column("minimum detectable effect", decimals=None),
        Column("status", is_text=True),
    ]
    notes = [
        f"status: {AGREE} or {CONTRADICT} where p < {stats.LEVEL} after Holm's correction over the table, from"
        f" {FEWEST_SEEDS} seeds on; no effect beyond a margin: two one-sided tests; undecided is no refutation: a true"
        " difference under the minimum detectable effect would usually have been missed",
        f"at the papers' alphas, {_LEAST} to {_MOST}; {NOT_RUN}: not with both noises and a common seed there",
        "± half of a 95% t interval",
    ]
    return per_study(runs, Table("claims", "The papers' claims and these runs", ["claim"], heads, [], notes), _rows)


def _rows(measures: Measures, rows: list[TableRow]) -> Iterator[tuple[list[str], list[Value]]]:
    tests = [test for claim in CLAIMS for test in _tests(measures, rows, claim)]
    controls = [(test.claim.metric, test.base) for test in tests]
    tested = stats.with_shared_scatter([test.found for test in tests], controls)
    decisions = decide([_comparison(measures, *each) for each in zip(tests, tested, strict=True)])
    level = stats.LEVEL / max(1, sum(np.isfinite(decision.p) for decision in decisions))
    for test, found, decision in zip(tests, tested, decisions, strict=True):
        sizes: list[Value] = [test.found, unit_of_difference(test.claim.metric), decision.p]
        sizes.append(stats.minimum_detectable_effect(found, level=level))
        yield [test.text], [test.claim.source, test.alpha, f"{test.found.runs}", *sizes, _status(test, decision)]
    known = {test.claim for test in tests}
    for claim in (claim for claim in CLAIMS if tests and claim not in known):
        yield [claim.text(claim.noise, claim.base)], [claim.source, "", "", "", "", "", "", NOT_RUN]


def _comparison(measures: Measures, test: _Test, found: Estimate) -> Comparison:
    return Comparison(test.claim.metric, found, float(measures.of_runs(test.claim.metric, test.control).mean()))


def _status(test: _Test, decision: Decision) -> str:
    if not decision.differs:
        return str(decision)
    return AGREE if test.found.mean * test.claim.sign > 0 else CONTRADICT


def _tests(measures: Measures, rows: list[TableRow], claim: Claim) -> Iterator[_Test]:
    """The claim at each alpha of the papers that both noises have; no noise is compared with all of them."""
    for treatment in (row for row in rows if _is(row, claim.noise)):
        for control in (row for row in rows if _is(row, claim.base)):
            alpha = treatment.labels["alpha"]
            both = by_seed(treatment.cell(""), control.cell(""))
            if control.labels["alpha"] not in ("", alpha) or not both or not _LEAST <= float(alpha) <= _MOST:
                continue
            found = measures.difference(claim.metric, *both)
            if isinstance(found, Estimate) and not np.isnan(found.mean):
                text = claim.text(treatment.labels["noise"], control.labels["noise"])
                yield _Test(claim, text, alpha, found, control.cell("").name, both.control)


def _is(row: TableRow, noise: str) -> bool:
    """The noise itself, or the one variant of it that these runs have: "neftune (length=true)"."""
    return plain_name(row.labels["noise"]) == noise
