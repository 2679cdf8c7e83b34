"""The notes below a table: what the intervals cover, what could have been detected, sources of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import shorten

import numpy as np
import pandas as pd

from analysis import stats
from analysis.render.table import Column, Value
from analysis.sources.runs import Runs
from analysis.stats import Estimate
from analysis.study.measures import Measures
from analysis.study.metrics import ITEMS_IN_WORDS, metric, unit_of_difference
from analysis.study.rows import BEST, CHOSEN, MEAN, TableRow
from analysis.tables.layout import TableLayout
from harness.metrics.names import CONTROLLED

# Addition to a title if verdicts come from a proxy.
BY_PROXY = "win rate by a proxy: word overlap with the reference answer, not quality"
# The header of the counts beside a difference.
PAIRS = "pairs"
# Fewer families or sources say little about others.
_FEW_CLUSTERS = 10
# Bits of the dtype used for answers (harness/generate/stage.py), and how many are coarse.
_BITS, _NARROW = "generate/bits", 16
_RATIO = "noise/ratio"
# Most rows that a note lists by name.
_MOST_NAMED = 6
_REASON = 200  # characters


def proxied(header: str) -> str:
    """A column's header, marked if a win rate is a proxy's; a paper's never is."""
    is_ours = "win rate" in header and not header.endswith("published")
    return header.replace("win rate", "proxy win rate") if is_ours else header


def relative_note(layout: TableLayout, columns: Iterable[tuple[Column, Sequence[Value]]]) -> str:
    """What the brackets of a relative change are, if there are any."""
    if not layout.relative or not any("change to" in column.header for column, _ in columns):
        return ""
    return (
        f"relative change to {layout.baseline} in percent of its value: [95% t interval on the logarithm of the ratio]"
    )


def unrecorded_note(layout: TableLayout) -> str:
    """A note if no run has any of the table's optional metrics."""
    return f"these runs have recorded none of {', '.join(layout.optional)}" if layout.optional else ""


def interval_note(rows: Iterable[tuple[list[str], list[Value]]]) -> str:
    """What the intervals are over; empty if there are none."""
    found = [value for _, values in rows for value in values if isinstance(value, Estimate)]
    known = [value for value in found if not np.isnan(value.low)]
    if not known:
        return ""
    counted = sorted({value.instructions for value in known if value.instructions})
    if not counted:
        return "± half of a 95% t interval over seeds"
    items = f"{_span(str(counted[0]), str(counted[-1]))} instructions{_clusters_note(known)}"
    runs = {value.runs for value in known}
    if runs == {1}:
        return f"± half of a 95% t interval over {items} of one run: not over seeds"
    single = "; where there is one run, over its instructions alone" if 1 in runs else ""
    return f"± half of a 95% t interval over seeds, for {ITEMS_IN_WORDS} over seeds and {items}{single}"


def _clusters_note(known: Sequence[Estimate]) -> str:
    """What counts as independent in the interval, if not the instruction."""
    counts = sorted({value.clusters for value in known if value.clusters})
    if not counts:
        return ""
    few = "; with so few the interval is wide" if counts[0] < _FEW_CLUSTERS else ""
    return (
        f" in {_span(str(counts[0]), str(counts[-1]))} families or sources, which count as the independent units{few}"
    )


def bits_note(measures: Measures, rows: Iterable[TableRow]) -> str:
    """The dtype used for answers, if not float32 for all: bfloat16 changes answers by itself."""
    runs = sorted({run_id for row in rows for cell in row.cells.values() for run_id in cell.run_ids})
    narrow = int((measures.of_runs(_BITS, runs) == _NARROW).sum()) if measures.has(_BITS) else 0
    if not narrow:
        return ""
    if narrow == len(runs):
        return "answers were computed in 16 bits (generate.dtype)"
    return (
        f"answers of {narrow} of {len(runs)} runs were computed in 16 bits, the others' in 32: part of a difference "
        "between them may be that (generate.dtype)"
    )


def ratio_note(measures: Measures, rows: Iterable[TableRow]) -> str:
    """How large each noise was beside the embeddings: one alpha is another strength in another model."""
    said: dict[str, str] = {}
    for cell in (cell for row in rows for cell in row.cells.values() if cell.labels.get("alpha")):
        found = measures.of_runs(_RATIO, cell.run_ids) if measures.has(_RATIO) else np.array([])
        known = found[~np.isnan(found)]
        if "noise" in cell.labels and cell.choice is None and len(known):
            said.setdefault(cell.name, f"{cell.name} {known.mean():.2g}")
    return f"norm of the noise / norm of the embeddings: {'; '.join(said.values())}" if said else ""


def unreadable_notes(runs: Runs) -> list[str]:
    """Each run left out because of a damaged file; `status` does not read answers and verdicts."""
    damaged = [run for run in runs.left_out if run.status == "unreadable"]
    notes = [f"unreadable: {shorten(run.reason, _REASON, placeholder=' ...')}" for run in damaged[:_MOST_NAMED]]
    return [*notes, f"unreadable: {len(damaged) - _MOST_NAMED} more"] if len(damaged) > _MOST_NAMED else notes


def unjudged_note(measures: Measures, rows: Iterable[TableRow]) -> str:
    """A note if missing verdicts leave fewer instructions in intervals and differences than in means."""
    missing = max((measures.unjudged(cell.run_ids) for row in rows for cell in row.cells.values()), default=0)
    if not missing:
        return ""
    return (
        f"instructions without a verdict in some runs of a row (up to {missing}) count in its mean, not in intervals "
        "and differences, so that a difference need not be that of two means"
    )


def power_notes(compared: Mapping[tuple[str, str], Sequence[Value]]) -> list[str]:
    """For each compared metric the difference that would have been detected, which gives null results a meaning.

    At the level of the strictest step of Holm's correction, because the p-values are corrected.
    """
    notes, tests = [*_agreement_note(compared), *_scatter_note(compared)], comparisons(compared)
    corrected = f" after Holm's correction for {tests} comparisons" if tests > 1 else ""
    for name in dict.fromkeys(name for name, _ in compared):
        values = [value for (other, _), column in compared.items() if other == name for value in column]
        level = stats.LEVEL / max(1, tests)
        found = [stats.minimum_detectable_effect(value, level=level) for value in values if isinstance(value, Estimate)]
        sizes = [size for size in found if not np.isnan(size)]
        if sizes:
            known = metric(name)
            unit = unit_of_difference(name)
            most = 100.0 if unit == "points" else math.inf
            shown = Column("", decimals=known.decimals, largest=most)
            span = _span(shown.number(min(sizes)), shown.number(max(sizes)))
            notes.append(
                f"minimum detectable effect in {known.header}: {span} {unit} (80% power{corrected}, if runs scatter as "
                "these do)"
            )
    return notes


def _agreement_note(compared: Mapping[tuple[str, str], Sequence[Value]]) -> Iterator[str]:
    values = [value for column in compared.values() for value in column if isinstance(value, Estimate)]
    if any(value.error == 0 for value in values):
        yield "a difference of a single value for all seeds and instructions has no interval: its scatter is unknown"


def _scatter_note(compared: Mapping[tuple[str, str], Sequence[Value]]) -> Iterator[str]:
    """How p and the detectable difference of a win rate take the scatter of seeds into account."""
    values = [value for column in compared.values() for value in column if isinstance(value, Estimate)]
    tested = [value for value in values if value.instructions and not np.isnan(stats.p_value(value))]
    if tested and all(value.runs == 1 for value in tested):
        yield (
            "p is about these two trained models on other instructions, not about the noise: two seeds of one noise "
            "can differ as much"
        )
    elif len(tested) > 1:
        yield "p of a win rate counts at least the seeds' scatter that the table's differences have on average"


def pairing_note(columns: Iterable[tuple[Column, Sequence[Value]]]) -> str:
    """What the column of counts next to a difference means, if there is one."""
    if not any(column.header.startswith(PAIRS) for column, _ in columns):
        return ""
    return (
        f"{PAIRS}: runs (× instructions) that a difference rests on, where those are fewer than its row has; "
        "without instructions it is over seeds alone"
    )


def uncompared_note(layout: TableLayout, lone: Sequence[tuple[TableRow, str]], is_all: bool) -> str:
    """Why rows have no difference."""
    if not lone:
        return ""
    some = "; ".join(_called(row, group) for row, group in lone[:_MOST_NAMED])
    more = f" and {len(lone) - _MOST_NAMED} more" if len(lone) > _MOST_NAMED else ""
    named = "no row is" if is_all else f"{some}{more}: not"
    return f"{named} compared with {layout.baseline}: no finished runs of it with the same settings and seeds"


def _called(row: TableRow, group: str) -> str:
    return " ".join(label for label in (*row.labels.values(), group) if label != "")


def mean_note(rows: Sequence[TableRow], names: Sequence[str]) -> str:
    """What the mean over groups covers, if there is one."""
    if not any(MEAN in row.cells for row in rows):
        return ""
    return (
        f"{MEAN}: over {', '.join(names)}, each with the same weight, by seed and instruction; of rows with runs in all"
    )


def comparisons(compared: Mapping[tuple[str, str], Sequence[Value]]) -> int:
    """Number of tests in a table, for which Holm corrects."""
    values = [value for column in compared.values() for value in column if isinstance(value, Estimate)]
    return sum(not np.isnan(stats.p_value(value)) for value in values)


def choice_note(rows: Sequence[TableRow]) -> str:
    """The alphas that were chosen, and the effect of choosing them on the reported instructions."""
    said = []
    for row in rows:
        for group, cell in row.cells.items():
            if cell.choice and not cell.is_best and group != MEAN:
                names = [label for label in (*row.labels.values(), group) if label not in (CHOSEN, "")]
                said.append(f"{' '.join(names)}: {cell.choice.alpha:g} ({BEST}: {cell.choice.on_test:g})")
    lost = _without_choice(rows)
    if not said:
        return lost
    return (
        f"{CHOSEN}: alpha with the highest win rate on one half of the instructions; {ITEMS_IN_WORDS} are those "
        "of the other half, other columns those of all. "
        f"{BEST}: the highest win rate on all instructions, which is also reported, as in the papers; "
        f"biased upwards, so it has no p. {'; '.join(said)}{f'. {lost}' if lost else ''}"
    )


def _without_choice(rows: Sequence[TableRow]) -> str:
    """Noises for which no alpha could be chosen, with the reason."""
    lost = []
    for row in (row for row in rows if row.labels.get("alpha") == CHOSEN):
        others = {key: label for key, label in row.labels.items() if key != "alpha"}
        family = [other for other in rows if other.matches(others) and other.labels["alpha"] not in (CHOSEN, BEST)]
        for group in dict.fromkeys(group for other in family for group in other.cells):
            if not row.cell(group).choice and sum(bool(other.cell(group).by_seed) for other in family) > 1:
                lost.append(" ".join(label for label in (*others.values(), group) if label))
    return f"no alpha chosen for {'; '.join(lost)}: no seed with verdicts at every alpha" if lost else ""


def unmeasured_note(columns: Iterable[Column]) -> str:
    """Columns that are left out because no run of the table has their metric."""
    names = dict.fromkeys(column.header for column in columns if column.header != metric(CONTROLLED).header)
    return f"left out, not measured for these runs: {', '.join(names)}" if names else ""


def uncontrolled_note(columns: Iterable[tuple[Column, Sequence[Value]]]) -> str:
    """How to get a length-controlled win rate, if no run of the table has one."""
    header = metric(CONTROLLED).header
    found = [value for column, values in columns for value in values if column.header == header]
    if not found or any(isinstance(value, Estimate) for value in found):
        return ""
    return f"{header}: needs judge.difficulty and judge.gamed, files of AlpacaEval"


def published_note(layout: TableLayout, published: pd.DataFrame) -> str:
    """Sources of the published numbers, with judge and model, which are rarely ours."""
    said = []
    for record in published.to_dict("records"):
        model = f", {record['model']}" if record["model"] and "model" not in layout.rows else ""
        judge = f", judged by {record['judge']}" if record["judge"] else ""
        said.append(f"{record['source']}{model}{judge}")
    best = "alpha" in layout.rows and ((published["alpha"] == "") & ~published["noise"].isin(["none", ""])).any()
    note = "; a noise without an alpha in the paper is its best of several" if best else ""
    return f"published: {'; '.join(dict.fromkeys(said))}{note}" if said else ""


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"
