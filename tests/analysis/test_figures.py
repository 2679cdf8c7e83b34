"""Figures: the numbers in them are those of the runs, and they can be read without colour."""

from __future__ import annotations

import math
import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from support.run_folders import config_of, write_run

from analysis import load_runs
from analysis.__main__ import main
from analysis.figures import FIGURES, Drawing, NotDrawn, draw
from analysis.figures.curves import alpha_axis
from analysis.figures.style import looks

CELLS = [("none", 0.0), *((noise, alpha) for noise in ("neftune", "symnoise") for alpha in (1.0, 5.0, 100.0))]


def sweep(root: Path, seeds: int = 3, items: int = 20, **settings: object) -> None:
    generator = random.Random(1)
    for noise, alpha in CELLS:
        for seed in range(seeds):
            wins = generator.choices([1.0, 2.0], k=items)
            lengths = [generator.randint(10, 90) for _ in range(items)]
            final = {"probe/trace/low": 0.0, "eval/loss": generator.random(), "probe/trace": generator.random()}
            history = [{"step": s, "train/loss": 2 - s / 20 + generator.random()} for s in range(2, 22, 2)]
            write_run(root, config_of(noise, alpha, seed, **settings), final, wins, lengths, history)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "runs"
    sweep(folder)
    return folder


@pytest.fixture(scope="module")
def drawings(root: Path) -> dict[str, Drawing]:
    return {found.name: found for found in draw(load_runs(root)) if isinstance(found, Drawing)}


def test_every_figure_of_a_full_study_is_drawn(drawings: dict[str, Drawing]) -> None:
    assert list(drawings) == [name for name in FIGURES if name != "gradient"]  # a probe of its own: test_gradient.py


def lines_of(drawing: Drawing, panel: int) -> dict[str, list[float]]:
    """Values of each line with a marker, by colour."""
    lines = drawing.figure.axes[panel].get_lines()
    return {str(line.get_color()): list(line.get_ydata()) for line in lines if len(line.get_xdata()) == 3}


@pytest.mark.parametrize(
    ("name", "panel", "metric"), [("alpha_curves", 2, "eval/loss"), ("curvature", 0, "probe/trace")]
)
def test_curves_are_means_over_seeds(
    root: Path, drawings: dict[str, Drawing], name: str, panel: int, metric: str
) -> None:
    frame = load_runs(root).runs
    lines = lines_of(drawings[name], panel)
    for noise, look in looks(["none", "neftune", "symnoise"]).items():
        if noise != "none":
            rows = frame[frame["noise"] == noise]
            expected = [mean(rows.loc[rows["alpha"] == alpha, metric]) for alpha in (1, 5, 100)]
            assert lines[look.colour] == pytest.approx(expected)


def test_curvature_shows_the_hessian_and_then_growing_radii(tmp_path: Path) -> None:
    names = ["curvature/gaussian/1", *(f"curvature/rademacher/{radius}" for radius in (100, 15, 5, 1)), "trace", "gap"]
    write_run(tmp_path, config_of("neftune", 5), {f"probe/{name}": 1.0 for name in names})
    (drawing,) = draw(load_runs(tmp_path), ["curvature"])
    assert isinstance(drawing, Drawing)
    labels = [axes.get_ylabel().partition("\n")[0] for axes in drawing.figure.axes]
    rademacher = [f"curvature, rademacher {radius}" for radius in (1, 5, 15, 100)]
    assert labels == ["trace (nats per norm²)", *rademacher, "curvature, gaussian 1"]
    assert "bands and whiskers: none, one run is no sample" in drawing.caption


def test_labels_of_alpha_do_not_run_into_each_other() -> None:
    figure = Figure()
    axes = figure.subplots()
    alpha_axis(axes, [1, 5, 10, 12, 50])
    figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "10", "", "50"]
    assert axes.get_xscale() == "symlog"


def test_values_without_any_scatter_are_drawn(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, config_of("neftune", 5, seed), {"eval/loss": 1.5})
        write_run(tmp_path, config_of("neftune", 10, seed), {"eval/loss": 1.5})
    (drawing,) = draw(load_runs(tmp_path), ["alpha_curves"])
    assert isinstance(drawing, Drawing)
    axes = drawing.figure.axes[-1]
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    assert low < 1.5 < high
    assert left < 5 < 10 < right


def test_the_bounds_of_a_probe_are_no_panels(drawings: dict[str, Drawing]) -> None:
    (axes,) = drawings["curvature"].figure.axes
    assert "trace" in axes.get_ylabel()


def test_the_forest_shows_paired_differences(root: Path, drawings: dict[str, Drawing]) -> None:
    frame = load_runs(root).runs.set_index(["noise", "alpha", "seed"])["eval/loss"]
    axes = drawings["forest"].figure.axes[1]
    points = [float(line.get_xdata()[0]) for line in axes.get_lines() if len(line.get_xdata()) == 1]
    expected = [
        mean(frame[noise, alpha, seed] - frame["none", 0, seed] for seed in range(3)) for noise, alpha in CELLS[1:]
    ]
    assert points == pytest.approx(expected)


def test_differences_of_very_unequal_size_can_all_be_read(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"), {"eval/loss": 1.0})
    losses = {0.1: 0.999, 1.0: 1.002, 5.0: 0.99, 10.0: 1.004, 300.0: 8.0}
    for alpha, loss in losses.items():
        write_run(tmp_path, config_of("neftune", alpha), {"eval/loss": loss})
    (drawing,) = draw(load_runs(tmp_path), ["forest"])
    assert isinstance(drawing, Drawing)
    axes = drawing.figure.axes[1]
    drawing.figure.draw_without_rendering()
    places = [
        axes.transAxes.inverted().transform(axes.transData.transform((loss - 1, 0)))[0] for loss in losses.values()
    ]
    zero = axes.transAxes.inverted().transform(axes.transData.transform((0, 0)))[0]
    assert max(places) < 1
    assert all(abs(place - zero) > 0.02 for place in places), "a thousandth and seven"
    assert "logarithmic on both sides of zero" in drawing.caption
    assert [label.get_text() for label in axes.get_xticklabels()][-1] == "10"


def test_bars_are_win_rates_of_the_category(root: Path, drawings: dict[str, Drawing]) -> None:
    runs = load_runs(root)
    rows = runs.preferences.merge(runs.runs[["run_id", "noise"]], on="run_id")
    rows = rows[(rows["noise"] == "none") & (rows["dataset"] == "family0")]
    bar = drawings["categories"].figure.axes[0].patches[0]
    assert bar.get_width() == pytest.approx(100 * rows["model_wins"].mean())


def test_histograms_hold_every_answer(drawings: dict[str, Drawing]) -> None:
    (axes,) = drawings["length_histograms"].figure.axes
    steps = [line for line in axes.get_lines() if line.get_drawstyle() == "steps-post"]
    assert len(steps) == 3
    for line in steps:
        assert sum(line.get_ydata()[:-1]) == pytest.approx(100)


def test_every_axis_has_a_name_and_every_caption_a_number(drawings: dict[str, Drawing]) -> None:
    for drawing in drawings.values():
        assert "n = 3 runs per" in drawing.caption, drawing.caption
        assert ("20 instructions" in drawing.caption) == (drawing.name not in ("losses", "curvature"))
        for axes in drawing.figure.axes:
            assert not axes.get_visible() or axes.get_xlabel()
    labels = [axes.get_ylabel() for axes in drawings["alpha_curves"].figure.axes]
    assert labels[:3] == ["win rate (%)", "length (characters)", "eval loss (nats)"]


def test_a_point_of_many_noises_stays_at_its_alpha(tmp_path: Path) -> None:
    for number in range(12):
        write_run(tmp_path, config_of(f"noise{number}", 5), {"eval/loss": 1.0})
    write_run(tmp_path, config_of("noise0", 10), {"eval/loss": 1.0})
    (drawing,) = draw(load_runs(tmp_path), ["alpha_curves"])
    assert isinstance(drawing, Drawing)
    drawing.figure.draw_without_rendering()
    axes = drawing.figure.axes[0]
    at_five = [
        line.get_transform().transform((5.0, 1.0))[0]
        for line in axes.get_lines()
        if line.get_marker() not in ("None", "")
    ]
    points = 72 / drawing.figure.dpi
    assert len(at_five) == 12
    assert points * (max(at_five) - min(at_five)) == pytest.approx(7.5)
    assert points * (axes.transData.transform((10, 0)) - axes.transData.transform((5, 0)))[0] > 50


def test_one_column_of_print_has_the_same_letters(root: Path) -> None:
    drawn = [each for each in draw(load_runs(root), width=3.3) if isinstance(each, Drawing)]
    assert {each.name for each in drawn} == set(FIGURES) - {"gradient"}, "the runs were not probed for that"
    for drawing in drawn:
        assert drawing.figure.get_figwidth() == 3.3
        drawing.figure.draw_without_rendering()
        right = drawing.figure.bbox.x1
        for axes in drawing.figure.axes:
            texts = [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
            for text in (text for text in texts if text.get_text() and axes.get_visible()):
                assert text.get_fontsize() >= 6
            assert max(axes.xaxis.label.get_window_extent().x1, axes.get_window_extent().x1) <= right, drawing.name
        columns = {round(axes.get_position().x0, 2) for axes in drawing.figure.axes if axes.get_visible()}
        assert len(columns) <= 2, "panels stand below each other"


def alpaca_runs(folder: Path, win: float) -> None:
    """Runs on the data of NEFTune's Table 6: none, and neftune with alpha 5 and 10."""
    for noise, alpha in (("none", 0.0), ("neftune", 5.0), ("neftune", 10.0)):
        config = config_of(noise, alpha, dataset__name="alpaca", eval_set__name="alpaca_eval")
        share = win + alpha / 100
        rows = [1 + share] * 40
        write_run(folder, config, {"generate/characters": 350.0 + 100 * alpha}, rows)


def test_published_numbers_stand_hollow_beside_ours(tmp_path: Path) -> None:
    alpaca_runs(tmp_path, 0.5)
    curves, lengths = draw(load_runs(tmp_path), ["alpha_curves", "win_rate_by_length"])
    assert isinstance(curves, Drawing)
    assert isinstance(lengths, Drawing)
    said = "Hollow, without interval: published, NEFTune 2310.05914 Table 6 (llama2_7b, judge chatgpt)."
    assert said in curves.caption
    assert said in lengths.caption
    colour = looks(["neftune"])["neftune"].colour
    (theirs,) = [line for line in hollow(curves.figure.axes[0]) if line.get_color() == colour]
    assert [*map(list, theirs.get_data())] == [[5, 10, 15], [62.55, 61.18, 61.86]]
    (theirs,) = [line for line in hollow(lengths.figure.axes[0]) if line.get_color() == colour]
    assert [*map(list, theirs.get_data())] == [[1062, 1010, 820], [62.55, 61.18, 61.86]]


def hollow(axes: Axes) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_markerfacecolor() == "#ffffff"]


def test_published_numbers_that_would_squeeze_ours_are_named_instead(tmp_path: Path) -> None:
    alpaca_runs(tmp_path, 0.0)
    (drawing,) = draw(load_runs(tmp_path), ["win_rate_by_length"])
    assert isinstance(drawing, Drawing)
    assert not hollow(drawing.figure.axes[0])
    assert "Published, NEFTune 2310.05914 Table 6" in drawing.caption
    assert "off the axes: win rate 48.26 to 62.55%." in drawing.caption


def test_published_numbers_are_of_the_same_data_and_instructions(drawings: dict[str, Drawing]) -> None:
    assert "ublished" not in drawings["alpha_curves"].caption


def test_a_bar_of_no_length_says_so_and_categories_that_nobody_won_in_are_words(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"), preferences=[1.0, 2.0, 1.0, 2.0])
    write_run(tmp_path, config_of("neftune"), preferences=[2.0, 1.0, 1.0, 2.0])
    (drawing,) = draw(load_runs(tmp_path), ["categories"])
    assert isinstance(drawing, Drawing)
    axes = drawing.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"family{i} (1)" for i in (0, 1, 3)]
    assert [text.get_text() for text in axes.texts] == ["0", "0"]
    assert "Nobody won in family2 (1)." in drawing.caption


def test_a_probe_of_one_run_has_its_own_interval_dotted_and_without_a_band(tmp_path: Path) -> None:
    final = {"probe/trace": 1.0, "probe/trace/low": 0.5, "probe/trace/high": 2.0}
    for noise in ("none", "neftune"):
        write_run(tmp_path, config_of(noise, 5), final)
    (drawing,) = draw(load_runs(tmp_path), ["curvature"])
    assert isinstance(drawing, Drawing)
    axes = drawing.figure.axes[0]
    (whisker,) = [found for found in axes.collections if isinstance(found, LineCollection)]
    assert whisker.get_segments()[0][:, 1].tolist() == [0.5, 2.0]
    assert whisker.get_linestyle()[0][1], "dotted"
    assert not [found for found in axes.collections if not isinstance(found, LineCollection)]
    assert "over the probed examples of one run (dotted: they say nothing of other seeds)" in drawing.caption


def test_lost_runs_are_named_and_in_no_number(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=2)
    write_run(tmp_path, config_of("neftune", 5, seed=7), {"eval/loss": 1e6}, status="diverged")
    write_run(tmp_path, config_of("symnoise", 5, seed=7), status="failed")
    drawing = next(found for found in draw(load_runs(tmp_path), ["alpha_curves"]))
    assert isinstance(drawing, Drawing)
    assert "Diverged or failed, in no number: neftune, α=5: 1; symnoise, α=5: 1." in drawing.caption
    assert max(max(values) for values in lines_of(drawing, 2).values()) < 10


def test_a_figure_of_a_proxys_win_rates_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path, config_of("none"), preferences=[1.0, 2.0, 1.0, 2.0])
    path = folder / "annotations.json"
    path.write_text(path.read_text().replace("reference:checker", "reference:word_f1_proxy"))
    (drawing,) = draw(load_runs(tmp_path), ["categories"])
    assert isinstance(drawing, Drawing)
    assert "Win rates are a proxy's: closeness to one reference, not quality." in drawing.caption


def test_judges_do_not_share_a_figure(tmp_path: Path) -> None:
    sweep(tmp_path / "a", seeds=1)
    sweep(tmp_path / "b", seeds=1, judge__name="other")
    for number, folder in enumerate(sorted(tmp_path.glob("?/*"))):
        folder.rename(tmp_path / f"{folder.name}-{number}")
    found = list(draw(load_runs(tmp_path), ["forest"]))
    assert [each.name for each in found] == ["forest-1", "forest-2"]
    assert all(isinstance(each, Drawing) for each in found)
    captions = " ".join(each.caption for each in found if isinstance(each, Drawing))
    assert sorted(re.findall(r"judge=(\w+)", captions)) == ["other", "reference"]


def test_the_largest_sets_of_runs_come_first_and_the_rest_are_named(tmp_path: Path) -> None:
    for number, (rate, seeds) in enumerate(((0.1, 1), (0.2, 3), (0.3, 2))):
        for seed in range(seeds):
            write_run(tmp_path, config_of("neftune", 5, seed, train__lr=rate), name=f"run{number}{seed}")
    found = list(draw(load_runs(tmp_path), ["length_histograms"], most=1))
    assert [type(each) for each in found] == [Drawing, NotDrawn, NotDrawn]
    assert isinstance(found[0], Drawing)
    assert "train.lr=0.2" in found[0].caption
    assert [each.where.rpartition(", ")[2] for each in found if isinstance(each, NotDrawn)] == [
        "train.lr=0.3", "train.lr=0.1"
    ]  # fmt: skip


def test_one_run_alone_draws_what_it_can_and_says_what_not(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"))
    found = {each.name: each for each in draw(load_runs(tmp_path))}
    assert isinstance(found["forest"], NotDrawn)
    assert "noise=none, and of another noise" in found["forest"].reason
    assert isinstance(found["curvature"], NotDrawn)
    drawn = found["length_histograms"]
    assert isinstance(drawn, Drawing)
    assert "n = 1 run per line" in drawn.caption


def test_the_command_writes_three_formats_and_captions(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    assert main(["figures", str(root), "-o", str(target), "--only", "forest,losses"]) == 0
    assert "wrote" in capsys.readouterr().out
    assert (target / "forest.pdf").read_bytes().startswith(b"%PDF")
    assert (target / "forest.png").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(target / "losses.svg")
    captions = (target / "captions.md").read_text(encoding="utf-8")
    assert captions.startswith("**forest**: Differences to no noise.")
    first = (target / "forest.svg").read_bytes()
    assert main(["figures", str(root), "-o", str(target), "--only", "forest"]) == 0
    assert (target / "forest.svg").read_bytes() == first, "the same runs give the same bytes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "forrest"], "figure 'forrest': there is no such figure; choose from alpha_curves"),
        (["-o", "{file}"], "is a file; figures go into a folder"),
        (["--width", "1"], "width=1: expected 3 to 20 inches"),
    ],
)
def test_mistakes_are_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main(["figures", str(root), *(argument.format(file=file) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_diverged_baseline_leaves_curves(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"), status="failed")
    write_run(tmp_path, config_of("neftune", 5), {"eval/loss": 1.0})
    found = {each.name: each for each in draw(load_runs(tmp_path))}
    assert isinstance(found["alpha_curves"], Drawing)
    assert isinstance(found["forest"], NotDrawn)
    heights = [line.get_ydata()[0] for line in found["alpha_curves"].figure.axes[-1].get_lines()]
    assert [value for value in heights if not math.isnan(value)] == [1.0]
    assert not np.isnan(heights).all()
