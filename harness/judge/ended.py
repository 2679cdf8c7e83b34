"""Judges that have been or will be discontinued: one dated list, and what to use instead.

Read on 2026-11-28 from third-party copies of the provider's page (https://platform.openai.com/docs/deprecations).
Correct a date here when the provider moves it. Stored verdicts stay readable.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from harness.config import JudgeConfig
from harness.config.paths import ASSETS

PROVIDER = "api.openai.com"
OPEN_JUDGE = "judge=open_32b (open weights, pinned; docs/judging.md has smaller ones)"


@dataclass(frozen=True)
class Snapshot:
    """A model behind an API and the day it is switched off; `annotators`: AlpacaEval's annotators that call it."""

    model: str
    ends: datetime.date
    annotators: tuple[str, ...] = ()


SNAPSHOTS = (
    Snapshot("gpt-3.5-turbo-16k-0613", datetime.date(2024, 9, 13), ("chatgpt_fn",)),
    # The sources differ for this one: 2026-03-26 or 2026-10-23.
    Snapshot(
        "gpt-4-1106-preview",
        datetime.date(2026, 10, 23),
        (
            "weighted_alpaca_eval_gpt4_turbo",
            "weighted_alpaca_eval_cot_gpt4_turbo",
            "alpaca_eval_gpt4_turbo_fn",
            "alpaca_eval_cot_gpt4_turbo_fn",
            "alpaca_eval_clf_gpt4_turbo",
        ),
    ),
    Snapshot("gpt-4", datetime.date(2026, 10, 23), ("alpaca_eval_gpt4", "alpaca_eval_gpt4_fn")),
    Snapshot("gpt-4o-mini-2024-07-18", datetime.date(2027, 1, 14), ("weighted_alpaca_eval_gpt-4o-mini-2024-07-18",)),
    Snapshot("gpt-4.1", datetime.date(2027, 1, 14), ("weighted_alpaca_eval_gpt4.1",)),
)


def refuse_ended(config: JudgeConfig, today: datetime.date | None = None) -> str | None:
    """Refuse a judge whose model the provider has discontinued; other servers may name models as they like.

    Returns:
        A line to show if the model ends at a known later date; else None.

    Raises:
        ValueError: names the model, the day and what to take instead.
    """
    model = _provider_model(config)
    snapshot = next((each for each in SNAPSHOTS if each.model == model), None)
    if snapshot is None:
        return None
    if (today or datetime.datetime.now(tz=datetime.UTC).date()) < snapshot.ends:
        return f"judge {config.name}: {model} ends on {snapshot.ends}; then take {OPEN_JUDGE}"
    raise ValueError(
        f"judge={config.name}: its model {model} ended on {snapshot.ends} and answers nobody; take {OPEN_JUDGE}, or "
        "give judge.base_url of a server that has it"
    )


def annotators_folder(name: str) -> Path | None:
    """The folder of an annotator that is in AlpacaEval's repository but not in its last release."""
    folder = ASSETS / "annotators" / name
    return folder if name and "/" not in name and (folder / "configs.yaml").is_file() else None


def _provider_model(config: JudgeConfig) -> str | None:
    """The model that will be asked for at the provider's own address."""
    if config.kind == "openai":
        return config.model if urlsplit(config.base_url or "").hostname == PROVIDER else None
    if config.kind != "alpaca_eval" or urlsplit(config.base_url or f"//{PROVIDER}").hostname != PROVIDER:
        return None
    name = config.annotators_config or ""
    by_name = next((each.model for each in SNAPSHOTS if name in each.annotators), None)
    return by_name or _model_in(Path(name).expanduser() / "configs.yaml")


def _model_in(path: Path) -> str | None:
    """The model named in an annotator's file, if readable; the package itself reports a broken file."""
    try:
        (settings,) = yaml.safe_load(path.read_text(encoding="utf-8")).values()
        return str(settings["completions_kwargs"]["model_name"])
    except (OSError, ValueError, AttributeError, KeyError, TypeError, yaml.YAMLError):
        return None
