"""The row of a machine in the table by processor, and the growth of memory, from measurements written by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks._common import commit, processor
from benchmarks.memory import COMMAND, Sample, growth, report
from benchmarks.row import HEADER, row


def measured(round_number: int, contender: str, tokens_per_s: float) -> dict[str, Any]:
    result = {"tokens_per_s": tokens_per_s, "cpu_s": 1.0, "peak_gb": 1.0, "first_loss": 1.0}
    setting = {"flop_per_token": 2e9}
    return {"round": round_number, "setting": setting, "contender": contender, "result": result}


def rates(round_number: int, **matmul: float) -> dict[str, Any]:
    return {
        "round": round_number,
        "setting": {},
        "matmul": {name.replace("_", " "): each for name, each in matmul.items()},
    }


def test_a_row_has_ratios_within_rounds_and_the_share_of_the_higher_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False})
    training = [
        rates(0, fp32=400e9, fp32_through_oneDNN=500e9, bf16=1000e9),
        measured(0, "harness fp32", 200.0),  # 400e9 FLOP/s: 100% of sgemm, 80% of oneDNN
        measured(0, "harness bf16", 300.0),  # 600e9: 60%
        measured(0, "HF Trainer fp32", 50.0),
        rates(1, fp32=400e9, fp32_through_oneDNN=500e9, bf16=1000e9),
        measured(1, "HF Trainer fp32", 40.0),
        measured(1, "harness bf16", 300.0),
        measured(1, "harness fp32", 100.0),
    ]
    found = dict(zip(HEADER[:3] + HEADER[5:], (cells := row(training, []))[:3] + cells[5:], strict=True))
    assert found["processor"] == f"{processor()}, avx512_bf16"  # the same processor with AMX is another row
    assert (found["fp32, tokens/s"], cells[2], cells[3], cells[4]) == ("150 (100-200)", "60 (40-80) %", "300", "60 %")
    assert found["HF Trainer, slower by"] == "3.25 (2.50-4.00)"
    assert (found["TRL packing, slower by"], found["six small runs side by side"]) == ("", "")
    assert (found["rounds"], found["commit"]) == ("2", commit())


def test_a_row_names_the_ratio_of_the_sweeps() -> None:
    assert row([], [{"ratios": [0.5, 0.6]}, {"ratios": [0.7]}])[7] == "0.60 (0.50-0.70)"


@pytest.mark.parametrize(("slope", "said"), [(0.0, "+0.00"), (2.5, "+2.50")])
def test_growth_is_that_of_the_second_half(slope: float, said: str) -> None:
    loading = [Sample(done, COMMAND, 100.0 * done) for done in range(1, 10)]
    later = [Sample(done, COMMAND, 900.0 + slope * (done - 10)) for done in range(10, 21)]
    assert growth(loading + later, 20) == pytest.approx(slope)
    lines = report(loading + later).splitlines()
    assert lines[2].split("|")[1].strip() == COMMAND
    assert lines[2].split("|")[-2].strip() == said
