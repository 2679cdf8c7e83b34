"""Runs from any source as tidy frames; runs that cannot be averaged are listed separately, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from analysis.sources.fetch import fetch
from analysis.sources.record import STATUSES, Details, RunRecord
from analysis.sources.select import Source, read_records, without_duplicates

# `frames` brings pandas, which takes half a second to import and which a list of runs does not need.
if TYPE_CHECKING:
    import pandas as pd

    from analysis.sources.preferences import Preferences

Made = TypeVar("Made")


class UnreadableRun(ValueError):
    """A part of a run is not as the harness writes it."""


class Runs:
    """Finished runs of a source as frames; the others in `excluded`.

    runs: one row per run: run_id, status, IDENTITY columns, then one float column per final metric.
    configs: one row per run, indexed by run_id, one column per setting, named by dotted key.
    history: run_id, step, one float column per logged metric (NaN where a step did not log it); no rows without any.
    generations: run_id, item, dataset (category), instruction, output, length (characters).
    preferences: run_id, item, annotator, dataset, instruction, preference (as annotated), model_wins (0 to 1, NaN
    if the verdict was not understood), correct and partial_credit (0 to 1 by a checker, else NaN), length and
    reference_length (characters).
    excluded: run_id, status, reason, origin, IDENTITY columns.

    Every source gives the same frames. alpha, metrics, preference and model_wins are float64; seed, step, item and
    lengths are int64; configs has objects, whole numbers as int. The only times are durations among the metrics.
    """

    def __init__(self, records: Sequence[RunRecord], left_out: Sequence[RunRecord] = ()) -> None:
        self.records, self.left_out = list(records), list(left_out)

    @property
    def without_result(self) -> list[RunRecord]:
        """Runs that ended without a result: diverged or failed."""
        return [run for run in self.left_out if run.status in ("diverged", "failed")]

    @cached_property
    def runs(self) -> pd.DataFrame:
        from analysis.sources.frames import runs_frame

        return runs_frame(self.records)

    @cached_property
    def configs(self) -> pd.DataFrame:
        from analysis.sources.frames import configs_frame

        return configs_frame(self.records)

    @cached_property
    def history(self) -> pd.DataFrame:
        from analysis.sources.frames import history_frame, history_of

        # One frame per run: as dicts, half a million rows would need a gigabyte at once.
        fetch([run.details for run in self.records], "history")
        return history_frame([frame for run in self.records if not (frame := _whole(run, history_of)).empty])

    @cached_property
    def generations(self) -> pd.DataFrame:
        from analysis.sources.frames import generations_frame, generations_of

        fetch([run.details for run in self.records], "outputs")
        return generations_frame([row for run in self.records for row in _whole(run, generations_of)])

    @cached_property
    def preferences(self) -> pd.DataFrame:
        from analysis.sources.frames import preferences_frame

        return preferences_frame(self.verdicts)

    @cached_property
    def verdicts(self) -> dict[str, Preferences]:
        """`preferences` in columns, by run_id: what tables compute with."""
        from analysis.sources.preferences import joined

        fetch([run.details for run in self.records], "annotations")
        found: dict[str, Preferences] = {}
        for run in self.records:
            each = _whole(run, _preferences_of)
            # Two sources may each have a run of that name, with other settings.
            found[run.run_id] = joined(found[run.run_id], each) if run.run_id in found else each
        return found

    @cached_property
    def wins(self) -> pd.DataFrame:
        """The model's share of each verdict in [0, 1]: instructions down (n-th occurrence apart), runs across."""
        return self.by_item("model_wins")

    def by_item(self, column: str) -> pd.DataFrame:
        """A column of numbers of `preferences`: instructions down (n-th occurrence apart), runs across."""
        from analysis.sources.frames import by_item_frame

        return by_item_frame(self.verdicts, column)

    @cached_property
    def clusters(self) -> pd.Series:
        """The task family or source of each instruction, by (instruction, occurrence); "" if rows name none."""
        from analysis.sources.frames import clusters_of

        return clusters_of(self.verdicts)

    @cached_property
    def excluded(self) -> pd.DataFrame:
        from analysis.sources.frames import excluded_frame

        return excluded_frame(self.left_out)

    def readable(self) -> Runs:
        """The runs with all parts readable; the others are left out as unreadable, each with the reason."""
        from analysis.sources.frames import generations_of, history_of

        kept, damaged = list[RunRecord](), list[RunRecord]()
        for run in self.records:
            try:
                for read in (_preferences_of, generations_of, history_of):
                    _whole(run, read)
                kept.append(run)
            except UnreadableRun as error:
                damaged.append(replace(run, status="unreadable", reason=str(error), details=Details()))
        return Runs(kept, [*self.left_out, *damaged])


def _preferences_of(run: RunRecord) -> Preferences:
    return run.details.preferences()


def _whole(run: RunRecord, read: Callable[[RunRecord], Made]) -> Made:
    """The result of `read` on a part of a run.

    Raises:
        UnreadableRun: the part is not as the harness writes it.
    """
    try:
        return read(run)
    except (ValueError, OSError, OverflowError) as error:
        said = str(error)
        raise UnreadableRun(said if run.origin in said else f"{run.origin}: {said}") from error


def made_of_readable(runs: Runs, make: Callable[[Runs], Made]) -> Made:
    """The result of `make` on these runs or, if a part of one is unreadable, on those that can be read."""
    try:
        return make(runs)
    except UnreadableRun:
        return make(runs.readable())


def load_runs(source: Source, include: Sequence[str] = ("finished",), **options: Any) -> Runs:
    """Runs of folders of run folders, folders of offline W&B logs, W&B projects ("entity/project"), one or several.

    `include` names the statuses to keep (see STATUSES); the rest, and all but the newest of runs with the same
    settings and seed, is in `.excluded`. Options, for every source: `group` (the name of a sweep); `where`, settings
    and the values to keep, like {"noise": ["none", "neftune"], "train.lr": 5e-5}. For W&B alone: `filters`, in the
    language of its API, applied by the server.

    Raises:
        ValueError: there is no such source, or a file has unexpected content.
    """
    unknown = set(include) - set(STATUSES)
    if unknown:
        raise ValueError(f"include={sorted(unknown)[0]!r}: expected any of {', '.join(STATUSES)}")
    return Runs(*without_duplicates(read_records(source, **options), include))
