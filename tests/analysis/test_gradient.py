"""Table and figure of the gradient under noise: shares in percent with the interval that the run recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.run_folders import config_of, write_run

from analysis import load_runs
from analysis.figures.drawing import Drawing
from analysis.figures.registry import draw
from analysis.tables.computed.gradient_noise import gradient_noise

SHARES = ("odd_share", "even_noise_share", "even_share", "even_along_share", "loss_rise")


def recorded(which: str, scale: float) -> dict[str, float]:
    found = {}
    for alpha in (5, 15):
        for name in SHARES:
            value = scale * alpha / 100
            found[f"probe/gradient/{which}/{name}/{alpha}"] = value
            found |= {
                f"probe/gradient/{which}/{name}/{alpha}/{k}": value + d for k, d in (("low", -0.02), ("high", 0.02))
            }
    return found


def test_a_row_for_each_model_and_strength(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none", 5, 0), recorded("base", 1.0) | recorded("trained", 2.0))
    (table,) = gradient_noise(load_runs(tmp_path))
    assert [labels[2:] for labels, _ in table.rows] == [[m, a] for m in ("base", "trained") for a in ("5", "15")]
    odd = table.rows[3][1][1]
    assert (odd.mean, odd.low, odd.high, odd.runs) == pytest.approx((30.0, 28.0, 32.0, 1))
    assert table.rows[0][1][5].mean == pytest.approx(0.05)  # nats


def test_several_runs_have_an_interval_over_seeds(tmp_path: Path) -> None:
    for seed, scale in ((0, 1.0), (1, 3.0)):
        write_run(tmp_path, config_of("none", 5, seed), recorded("base", scale))
    (table,) = gradient_noise(load_runs(tmp_path))
    odd = table.rows[0][1][1]
    assert (odd.mean, odd.runs) == (pytest.approx(10.0), 2)
    assert odd.high - odd.mean == pytest.approx(12.7062 * 5.0, rel=1e-4)  # t of one degree of freedom, error 5


def test_the_figure_has_a_panel_for_each_model(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none", 5, 0), recorded("base", 1.0) | recorded("trained", 2.0))
    (drawing,) = draw(load_runs(tmp_path), ("gradient",))
    assert isinstance(drawing, Drawing)
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes if axes.get_visible()]
    assert titles == ["before fine-tuning", "after fine-tuning"]
    assert "which the symmetric pair cancels" in drawing.caption
