"""Figures can be read: without colour, in print, with names and letters of any kind."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from support.run_folders import config_of, write_run
from support.study import sweep

from analysis import load_runs
from analysis.__main__ import main
from analysis.figures import Drawing, draw
from analysis.figures.style import looks


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "runs"
    sweep(folder)
    return folder


def test_noises_differ_without_colour() -> None:
    names = ["none", *(f"noise{i}" for i in range(9)), "neftune", "symnoise"]
    found = looks(names)
    assert len({look.marker for look in found.values()}) >= 10
    assert len({(str(look.line), look.marker) for look in found.values()}) == len(names)
    assert looks(["neftune", "none"])["neftune"] == found["neftune"], "a noise looks the same in every figure"
    six = looks(["neftune", "symnoise", "gaussian", "gaussian_matched", "r3f", "bernoulli_x2"])
    assert len({look.colour for look in six.values()}) == 6


def test_the_commoner_of_two_variants_of_a_noise_has_its_look() -> None:
    plain = looks(["neftune"])["neftune"]
    found = looks(["neftune (length=row)", "neftune (length=true)", "neftune (length=true)"])
    assert found["neftune (length=true)"] == plain
    assert found["neftune (length=row)"] != plain


def test_a_noise_looks_the_same_in_all_figures_of_a_source(tmp_path: Path) -> None:
    """A study of one noise beside a study of three: what the second calls for decides in both."""
    for number, noise in enumerate(("r3f", "freelb", "sam")):
        write_run(tmp_path, config_of(noise, 5), name=f"a{number}")
    write_run(tmp_path, config_of("sam", 5, train__lr=0.1), name="b")
    found = list(draw(load_runs(tmp_path), ["length_histograms"]))
    colours = [
        {line.get_color() for line in each.figure.axes[0].get_lines()} for each in found if isinstance(each, Drawing)
    ]
    assert len(colours[0]) == 3
    assert len(colours[1]) == 1
    assert colours[1] < colours[0]


def test_many_noises_have_a_histogram_each(tmp_path: Path) -> None:
    for noise in ("none", "neftune", "symnoise", "gaussian", "bernoulli"):
        write_run(tmp_path, config_of(noise, 5), lengths=[10, 20, 30, 40])
    (drawing,) = draw(load_runs(tmp_path), ["length_histograms"])
    assert isinstance(drawing, Drawing)
    shown = [axes for axes in drawing.figure.axes if axes.get_visible()]
    names = [axes.get_title("left") for axes in shown]
    assert names == ["bernoulli, α=5", "gaussian, α=5", "neftune, α=5", "symnoise, α=5"]
    for axes in shown:
        assert sum(line.get_drawstyle() == "steps-post" for line in axes.get_lines()) == 2, "the noise and no noise"


def test_every_category_is_shown_in_two_columns_with_names_that_a_person_reads(tmp_path: Path) -> None:
    folder = write_run(tmp_path, config_of("none"), preferences=[2.0] * 34)
    rows = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    changed = [{**row, "dataset": f"some_family_{i:02}"} for i, row in enumerate(rows)]
    (folder / "annotations.json").write_text(json.dumps(changed), encoding="utf-8")
    for width, columns in ((10.0, 2), (3.6, 1)):
        (drawing,) = draw(load_runs(tmp_path), ["categories"], width=width)
        assert isinstance(drawing, Drawing)
        names = [
            label.get_text().replace("\n", " ") for axes in drawing.figure.axes for label in axes.get_yticklabels()
        ]
        assert names == [f"some family {i:02} (1)" for i in range(34)]
        assert len(drawing.figure.axes) == columns


def test_names_that_nobody_should_give_are_drawn_as_text(tmp_path: Path) -> None:
    for noise in ("none", "</script>\u202e$x_1$\u0000 &" + "long" * 40):
        folder = write_run(tmp_path / "runs", config_of(noise, 5), name=f"run{len(noise)}")
        rows = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
        rows[0]["dataset"] = "cat\u0000\u202e<b>" + "x" * 500
        (folder / "annotations.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main(["figures", str(tmp_path / "runs"), "-o", str(tmp_path / "out")]) == 0
    drawn = sorted((tmp_path / "out").glob("*.svg"))
    assert len(drawn) == 6
    for path in drawn:
        ElementTree.parse(path)
        assert "\u202e" not in path.read_text(encoding="utf-8")


def test_letters_that_the_font_lacks_are_left_to_the_browser(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "runs", config_of("none"))
    rows = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    rows[1]["dataset"] = "\u65e5\u672c\u8a9e \U0001f600"
    (folder / "annotations.json").write_text(json.dumps(rows), encoding="utf-8")
    (drawing,) = draw(load_runs(tmp_path / "runs"), ["categories"])
    assert isinstance(drawing, Drawing)
    assert main(["figures", str(tmp_path / "runs"), "-o", str(tmp_path / "out"), "--only", "categories"]) == 0
    assert "\u65e5 \u672c \u8a9e: boxes in PNG and PDF" in capsys.readouterr().out
    assert "\u65e5\u672c\u8a9e \U0001f600 (1)" in drawing.svg()


def test_text_of_a_file_stays_text(root: Path, tmp_path: Path) -> None:
    assert main(["figures", str(root), "-o", str(tmp_path), "--only", "forest"]) == 0
    assert ">symnoise, α=5</text>" in (tmp_path / "forest.svg").read_text(encoding="utf-8")
    pdf = (tmp_path / "forest.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_known_noises_differ_in_grey_by_line_marker_and_hatch() -> None:
    found = looks(["none", "neftune", "symnoise", "gaussian", "bernoulli"]).values()
    for key in ("line", "marker"):
        assert len({str(getattr(look, key)) for look in found}) == 5
    assert len({(look.hatch, look.colour == found.__iter__().__next__().colour) for look in found}) == 5
