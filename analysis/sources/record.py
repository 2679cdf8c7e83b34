"""One record per run, from any source, with details that are read only when needed.

Three modules make records: folders.py (run folders), wandb_offline.py (W&B logs on disk), wandb_api.py (the W&B API).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

# Lists of runs need neither frames nor arrays, whose packages take half a second to import.
if TYPE_CHECKING:
    import pandas as pd

    from analysis.sources.preferences import Preferences

# finished and diverged runs reached their end; failed ones stopped with an error; running and incomplete ones have
# not ended, and only running ones have a process that still can; foreign ones are not the harness's; unreadable ones
# have a file that the harness did not write.
STATUSES = ("finished", "diverged", "failed", "running", "incomplete", "foreign", "unreadable")
DIVERGED, RUNNING, FOREIGN = "training met NaN or infinity", "not finished yet", "its settings are not this harness's"

# Columns that identify a run in a study; every runs frame has them before its metrics.
IDENTITY = ["model", "dataset", "eval_set", "noise", "alpha", "seed", "judge", "experiment", "group"]

# Suffix of the key for the content of a path, and the length of its hash.
CONTENT, _SHORT_HASH = "_content", 12

RecordPart = Literal["metrics", "history", "outputs", "annotations"]


class Details:
    """The large parts of a run; an empty run has none."""

    def history(self) -> list[dict[str, Any]]:
        """Logged steps: {"step": n, metric: number or None}."""
        return []

    def history_frame(self) -> pd.DataFrame:
        """The same as a frame, a column for each metric."""
        import pandas as pd

        return pd.DataFrame(self.history())

    def outputs(self) -> list[dict[str, Any]]:
        """Rows of model_outputs.json."""
        return []

    def annotations(self) -> list[dict[str, Any]]:
        """Rows of annotations.json."""
        return []

    def preferences(self) -> Preferences:
        """The same in columns."""
        from analysis.sources.preferences import preferences_of

        return preferences_of(self.annotations())

    def is_here(self, part: RecordPart) -> bool:
        """Whether a part can be read without a network."""
        del part
        return True

    def fetch(self, part: RecordPart) -> None:
        """Fetch a part that is not here."""


@dataclass(frozen=True)
class RunRecord:
    """One run: its resolved settings and final numbers.

    config: as the harness wrote it, nested. final: metric -> number. origin: folder or address, for messages.
    reason: why there is no result. finished_at: Unix seconds, 0 if it has not ended. step: the last logged one, if the
    source gives it without the history.
    """

    run_id: str
    status: str
    config: dict[str, Any]
    final: dict[str, float]
    origin: str
    details: Details
    reason: str = ""
    finished_at: float = 0.0
    step: int | None = None

    @property
    def group(self) -> str | None:
        """The sweep that it belongs to."""
        found: str | None = (self.config.get("tracking") or {}).get("group")
        return found


def with_contents(config: dict[str, Any], files: Any) -> dict[str, Any]:
    """The settings plus the content of their paths when the run started: dataset.path_content next to dataset.path.

    Args:
        config: as the harness wrote it.
        files: hash of each file by its key, {"dataset.path": ...}, as in provenance.json; anything else is ignored.
    """
    found = dict(config)
    for key, content in files.items() if isinstance(files, dict) else ():
        *sections, last = str(key).split(".")
        section: Any = found
        for name in sections:
            inner = section.get(name) if isinstance(section, dict) else None
            if isinstance(inner, dict):
                section[name] = inner = dict(inner)  # the given settings stay as they are
            section = inner
        if sections and isinstance(section, dict):
            section[f"{last}{CONTENT}"] = str(content)[:_SHORT_HASH]
    return found


def is_of_harness(config: Any) -> bool:
    """Whether settings are those of one of our runs: other programs write configs, too."""
    return isinstance(config, dict) and all(isinstance(config.get(key), dict) for key in ("model", "noise", "train"))


def flaw_of(config: dict[str, Any], final: Any) -> str:
    """What is wrong with the settings or final numbers of one of our runs; empty if nothing is."""
    for key in (*_SECTIONS, "tracking", "harness"):
        if not isinstance(config.get(key), dict | None):
            return f"config: key {key}: expected a mapping, found {type(config[key]).__name__}"
    for key in _SECTIONS:
        name = (config.get(key) or {}).get("name")
        if not isinstance(name, str | None):
            return f"config: key {key}.name: expected text, found {str(name)[:_SHOWN]!r}"
    if not isinstance(config.get("stages"), list | None):
        return f"config: key stages: expected a list, found {str(config['stages'])[:_SHOWN]!r}"
    for key, kind in (("alpha", int | float), ("seed", int)):
        if key not in config:
            return f"config: no {key}, so that it has no place in a table"
        if not isinstance(config[key], kind) or isinstance(config[key], bool):
            return f"config: key {key}: expected a number, found {str(config[key])[:_SHOWN]!r}"
    if not isinstance(final, dict):
        return f"summary: key final: expected a mapping of metrics to numbers, found {str(final)[:_SHOWN]!r}"
    for name, value in final.items():
        if type(value) is not float and value is not None and not _is_number(value):
            return f"summary: key final: {str(name)[:_SHOWN]}: expected a number, found {str(value)[:_SHOWN]!r}"
    return ""


_SECTIONS = ("model", "dataset", "eval_set", "noise", "train", "generate", "judge", "probe")
_SHOWN = 60  # characters of a value in a message


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and float(value) is not None
    except OverflowError:
        return False
