"""Releases below the floors are refused with one line, and the floors are those that are declared."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest
from support.commands import ROOT

from harness.system.versions import FLOORS, check_versions


def test_the_floors_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["run"]]
    for name, floor in FLOORS.items():
        assert any(each.split(",")[0] == f"{name}>={floor}" for each in declared), name


def test_what_is_installed_is_new_enough():
    check_versions()


@pytest.mark.parametrize(
    ("floor", "fine"), [("2.9", True), ("1.99.99", True), ("2.10.1", True), ("2.11", False), ("10.0", False)]
)
def test_releases_are_compared_by_their_numbers(monkeypatch, floor, fine):
    monkeypatch.setattr("harness.system.versions.version", lambda _: "2.10.2+cpu")
    if fine:
        check_versions({"torch": floor})
    else:
        with pytest.raises(ValueError, match=r"torch 2\.10\.2\+cpu \(at least .*pip install"):
            check_versions({"torch": floor})


def test_the_command_ends_with_one_line_where_a_release_is_too_old(tmp_path):
    """A transformers of 5.16 by its metadata, first on the path."""
    (tmp_path / "transformers-5.16.0.dist-info").mkdir()
    (tmp_path / "transformers-5.16.0.dist-info" / "METADATA").write_text("Name: transformers\nVersion: 5.16.0\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "harness", "harness.dry_run=true"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: too old for the harness: transformers 5.16.0 (at least 5.17); pip install")
    assert result.stderr.count("\n") == 1
