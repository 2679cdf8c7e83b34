"""Settings of judges, checked before anything is trained; scores of the reference judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.config import Config, JudgeConfig
from harness.judge.judges.reference import from_scores, word_f1
from harness.judge.judges.registry import check_judge

Compose = Callable[..., Config]


@pytest.mark.parametrize(
    ("scores", "preference"), [((1.0, 1.0), 1.5), ((1.0, 0.0), 1.0), ((0.0, 1.0), 2.0), ((1.0, 0.5), 1.25)]
)
def test_preference_from_scores(scores: tuple[float, float], preference: float) -> None:
    assert from_scores(*scores) == preference


def test_word_f1_by_hand() -> None:
    assert word_f1("The cat, the mat", "the cat sat") == pytest.approx(2 * 2 / 7)  # common: the, cat
    assert word_f1("", "") == 1.0
    assert word_f1("", "x") == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "reference", "model": "x"}, "judge.model is not a key of judge.kind=reference"),
        ({"kind": "reward"}, "judge.model is missing; judge.kind=reward needs it"),
        ({"gamed": "x.csv"}, "give both judge.difficulty and judge.gamed, or neither"),
        ({"kind": "local_lm", "model": "m", "order": "both", "labels": ["A", "B"], "prompt": "?"}, "does not contain"),
    ],
)
def test_keys_belong_to_kinds(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JudgeConfig(**{"name": "j", **settings})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["judge=openai"], r"judge.api_key_env=OPENAI_API_KEY: no such environment variable"),
        (["judge=alpaca_eval", "judge.python=no/python"], "run `make alpaca-eval`"),
        (["judge.difficulty=no.csv", "judge.gamed=no.csv"], r"judge.difficulty=no.csv: no such file"),
        (["judge=similarity", "judge.model=package:no_such/model"], "the package no_such is not installed"),
    ],
)
def test_what_is_missing_is_known_before_training(
    overrides: list[str], message: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match=message):
        check_judge(compose(*overrides).judge)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("judge.base_url=http://me:secret@host/v1", "without user, password or query"),
        ("judge.labels=[A,A]", "expected two different labels"),
        ("judge.parse=x", "expected a regular expression with one group"),
        ("judge.api_key_env=sk-123", "string should match pattern"),
        ("judge.order=random", "input should be 'alpaca_eval' or 'both'"),
    ],
)
def test_settings_of_an_endpoint_are_checked(override: str, message: str, compose: Compose) -> None:
    with pytest.raises(ValueError, match=message):
        compose("judge=endpoint", override)
