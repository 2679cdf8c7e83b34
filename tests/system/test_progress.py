"""What a run shows of itself fits a terminal of 80 columns, with whole words."""

from __future__ import annotations

import pytest

from harness.system.progress import _LOG_FILE_FORMAT, _SCREEN_FORMAT, Progress, summary_line


@pytest.mark.parametrize("form", [_SCREEN_FORMAT, _LOG_FILE_FORMAT], ids=["screen", "log"])
def test_a_line_of_progress(form):
    with Progress("[12/21] symnoise-a10-s2 train", 200, "batch") as progress:
        progress._bar.bar_format = form
        for _ in range(45):
            progress.update(loss="0.912", tokens_per_s="9012")
        line = str(progress._bar)
    assert "45/200" in line
    assert line.endswith("loss 0.912, tokens/s 9012")
    assert ("45/200 batches" in line) == (form == _LOG_FILE_FORMAT)
    assert form == _LOG_FILE_FORMAT or len(line) <= 80


def test_the_last_line_of_a_run_has_its_accuracy_or_its_win_rate_but_not_half_of_one():
    marked = {"status": "finished", "final": {"train/loss": 0.5, "judge/win_rate": 20.0, "judge/accuracy": 40.0}}
    assert summary_line("none-s0", marked, 12.3) == "none-s0 finished in 12 s: loss 0.500, accuracy 40.0%"
    judged = {"status": "finished", "final": {"judge/win_rate": 20.0}}
    assert summary_line("none-s0", judged, 12.3) == "none-s0 finished in 12 s: win rate 20.0%"
