"""What a table says of the type that answers were computed in."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from analysis.tables.notes import bits_note


class Measures:
    def __init__(self, bits):
        self.bits = bits

    def has(self, name):
        assert name == "generate/bits"
        return bool(self.bits)

    def of_runs(self, name, run_ids):
        assert name == "generate/bits"
        return np.array([self.bits.get(run_id, np.nan) for run_id in run_ids])


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        ({}, ""),
        ({"a": 32.0, "b": 32.0}, ""),
        ({"a": 16.0, "b": 16.0}, "answers were computed in 16 bits"),
        ({"a": 16.0, "b": 32.0}, "answers of 1 of 2 runs were computed in 16 bits, the others' in 32"),
        ({"a": 16.0}, "answers of 1 of 2 runs"),  # the other was answered before this was recorded
    ],
)
def test_answers_in_16_bits_are_said(bits, said):
    rows = [SimpleNamespace(cells={"": SimpleNamespace(run_ids=[run_id])}) for run_id in ("a", "b")]
    note = bits_note(Measures(bits), rows)
    assert note.startswith(said)
    assert bool(note) == bool(said)
