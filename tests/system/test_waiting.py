"""Only a silence that lasts is explained."""

from __future__ import annotations

import time

import pytest

from harness.system.waiting import waiting


def test_a_long_silence_is_explained_and_a_short_one_is_not(capsys):
    with waiting("loading the model", seconds=0.05):
        time.sleep(0.3)
    with waiting("reading the data", seconds=30.0):
        pass
    with waiting("another rank", show=False, seconds=0.0):
        time.sleep(0.05)
    assert capsys.readouterr().err == "loading the model ...\n"


def test_what_fails_inside_is_not_explained_afterwards(capsys):
    with pytest.raises(ValueError, match="no such file"), waiting("reading", seconds=0.05):
        raise ValueError("no such file")
    time.sleep(0.2)
    assert capsys.readouterr().err == ""
