"""The style-controlled win rate against Arena-Hard's own procedure, computed independently with torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.metrics import style_controlled_win_rates
from harness.metrics.style_control import FEATURES, style_differences

RELEASED = Path(__file__).parents[2].parent / "shared" / "data" / "alpaca_eval" / "alpaca-7b" / "annotations.json"
WORDS = ["# Head", "plain words", "- item", "1. one", "**bold**", "__also__", "```\n# no head\n```", "#none", "* a *b*"]


def battles(count: int, models: int, seed: int = 0) -> list[dict[str, Any]]:
    """Longer answers win more often; the models differ by half a unit of log-odds."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        texts = ["\n".join(generator.choice(WORDS, size=generator.integers(1, 12))) for _ in range(2)]
        edge = 0.5 * (number % models) - 0.3 + (len(texts[1]) - len(texts[0])) / 60
        won = generator.random() < 1 / (1 + np.exp(-edge))
        preference = 1.5 if number % 17 == 0 else 2.0 if won else 1.0
        identity = {"generator_1": "base", "generator_2": f"m{number % models}"}
        rows.append({"output_1": texts[0], "output_2": texts[1], "preference": preference, **identity})
    return rows


def marks_of(text: str) -> list[int]:
    """Counts as add_markdown_info.py takes them: the insides of code blocks are taken out first."""
    for inside in re.findall(r"```([^`]*)```", text):
        text = text.replace(inside, "")
    heads = sum(len(re.findall(rf"^#{{{level}}}\s", text, re.MULTILINE)) for level in range(1, 7))
    lists = len(re.findall(r"^\s*\d+\.\s", text, re.MULTILINE)) + len(re.findall(r"^\s*[-*+]\s", text, re.MULTILINE))
    return [heads, lists, len(re.findall(r"\*\*[^*\n]+\*\*", text)) + len(re.findall(r"__[^_\n]+__", text))]


def reference(rows: list[dict[str, Any]], style_columns: tuple[int, ...] = (0, 1, 2, 3)) -> dict[str, float]:
    """Upstream's steps in upstream's terms: a column for the baseline, LBFGS on the summed log-loss, from 0.5."""
    names = sorted({row["generator_2"] for row in rows} | {"base"})
    table = []
    for row in rows:
        one_hot = [float(name == row["generator_2"]) - float(name == "base") for name in names]
        (ours, theirs) = ([len(row[key]), *marks_of(row[key])] for key in ("output_2", "output_1"))
        style = [(ours[0] - theirs[0]) / (ours[0] + theirs[0])]
        for mine, other in zip(ours[1:], theirs[1:], strict=True):
            density, opposite = mine / ours[0], other / theirs[0]
            style.append((density - opposite) / (density + opposite + 1))
        table.append(one_hot + style)
    features = torch.tensor(table, dtype=torch.float64)
    style_part = features[:, len(names) :]
    features[:, len(names) :] = (style_part - style_part.mean(0)) / style_part.std(0)
    features = features[:, [*range(len(names)), *(len(names) + column for column in style_columns)]]
    outcomes = torch.tensor([row["preference"] - 1 for row in rows], dtype=torch.float64)
    weights = torch.full((features.shape[1],), 0.5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], lr=1.0, max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(features @ weights, outcomes, reduction="sum")
        loss.backward()
        return loss

    optimizer.step(closure)
    strength = torch.exp(weights.detach())
    base = strength[names.index("base")]
    return {n: float(100 * s / (s + base)) for n, s in zip(names, strength, strict=False) if n != "base"}


@pytest.mark.parametrize(("count", "models"), [(300, 1), (600, 3)])
def test_the_rates_are_arena_hards(count: int, models: int) -> None:
    rows = battles(count, models)
    ours, theirs = style_controlled_win_rates(rows, rounds=0), reference(rows)
    assert list(ours) == list(theirs)
    for name, rate in theirs.items():
        assert ours[name]["style_controlled_win_rate"] == pytest.approx(rate, abs=1e-5)  # where LBFGS stops


@pytest.mark.skipif(not RELEASED.is_file(), reason="needs the released files in ../shared")
def test_on_a_released_file() -> None:
    """alpaca-7b against text-davinci-003, judged by GPT-4: 26.5% as judged."""
    rows = [
        {**row, "preference": 1.5 if row["preference"] == 0 else row["preference"]}
        for row in json.loads(RELEASED.read_text())
    ]
    found = style_controlled_win_rates(rows, rounds=20)["alpaca-7b"]
    left_out = [name for name in FEATURES if np.isnan(found[f"style_{name}"])]
    columns = tuple(number for number, name in enumerate(FEATURES) if name not in left_out)
    assert "length" not in left_out
    assert "bold" in left_out  # in bold are answers in a handful of battles
    theirs = reference([{**row, "generator_1": "base", "generator_2": "m"} for row in rows], columns)["m"]
    assert found["style_controlled_win_rate"] == pytest.approx(theirs, abs=1e-4)
    assert found["style_low"] < found["style_controlled_win_rate"] < found["style_high"]


def test_a_win_by_length_alone_is_a_draw_in_equal_style() -> None:
    """Two answers of which the longer wins four times of five, either way round: 50% when lengths are equal."""
    long, short = "word " * 20, "word"
    rows = []
    for first, second, wins in ((short, long, 2.0), (long, short, 1.0)):
        for number in range(50):
            preference = wins if number % 5 else 3 - wins
            rows.append({"output_1": first, "output_2": second, "preference": preference})
    # Three long answers of ours for each long one of theirs: as judged, we win 65%.
    uneven = [{**row, "generator_1": "b", "generator_2": "m"} for row in rows[:50] * 3 + rows[50:]]
    assert np.mean([row["preference"] - 1 for row in uneven]) == pytest.approx(0.65)
    found = style_controlled_win_rates(uneven, rounds=0)["m"]
    # The features are centred, so "equal style" is the mean difference of the battles, as upstream has it.
    assert found["style_length"] > 0
    differences = style_differences(uneven)[:, 0]
    at_equal = np.log(4) * (0 - differences.min()) / (differences.max() - differences.min()) * 2 - np.log(4)
    assert found["style_controlled_win_rate"] == pytest.approx(100 / (1 + np.exp(-at_equal)), abs=1e-6)


def test_bad_input_is_named() -> None:
    row = {"output_1": "a", "output_2": "b", "preference": 2.0, "generator_1": "b", "generator_2": "m"}
    with pytest.raises(ValueError, match="generator_1 has several values"):
        style_controlled_win_rates([row, {**row, "generator_1": "c"}])
    with pytest.raises(ValueError, match="no row has a verdict"):
        style_controlled_win_rates([{**row, "preference": None}])
    with pytest.raises(ValueError, match="wins or loses every battle"):
        style_controlled_win_rates([row] * 5)
