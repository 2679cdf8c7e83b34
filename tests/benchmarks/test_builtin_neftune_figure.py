"""The figure of what built-in NEFTune does: drawn from the committed table, whose numbers are those of the hook."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from support.commands import ROOT

pytest.importorskip("matplotlib")
from benchmarks.builtin_neftune_figure import draw, read

TABLE = ROOT / "benchmarks" / "results" / "builtin_neftune.md"


def test_the_committed_table_is_the_wrong_length_and_nothing_else() -> None:
    lengths, found, measured = read(TABLE)
    assert lengths == [20, 60, 120, 250, 500]
    assert "transformers" in measured
    assert {name: len(layouts) for name, layouts in found.items()} == {"right": 5, "padded": 2, "flat": 3}
    widths = {"padded": 500, "flat": 950}
    for name, layouts in found.items():
        for values in layouts:
            for length, value in zip(lengths, values, strict=True):
                expected = math.sqrt(length / widths[name]) if name in widths else 1.0
                assert value == pytest.approx(expected, abs=0.02)  # printed with two digits, five draws


def test_the_figure_is_written_in_both_formats(tmp_path: Path) -> None:
    drawing = draw(*read(TABLE))
    for suffix in (".png", ".svg"):
        drawing.save(tmp_path / f"figure{suffix}")
        assert (tmp_path / f"figure{suffix}").stat().st_size > 5_000
    words = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    for word in ("real tokens of the document", "neftune_noise_alpha, packed to 950", "NoiseCallback"):
        assert word in words
    assert "gets 14% when packed" in drawing.caption
