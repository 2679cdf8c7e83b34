"""A run's command is kept as it was typed."""

from __future__ import annotations

import sys

from harness.record.provenance import as_typed, provenance


def test_a_command_is_kept_in_the_words_that_were_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/harness/__main__.py", "-m", "seed=range(3)"])
    assert provenance()["command"] == ["python", "-m", "harness", "-m", "seed=range(3)"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/harness", "alpha=1"])
    assert provenance()["command"] == ["harness", "alpha=1"]


def test_commands_of_older_records_read_alike():
    assert as_typed(["__main__.py", "alpha=1"]) == ["python", "-m", "harness", "alpha=1"]
    assert as_typed(["harness", "alpha=1"]) == ["harness", "alpha=1"]
