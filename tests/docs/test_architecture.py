"""docs/architecture.md names functions, files and pages that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`((?:harness|analysis)(?:\.\w+)+)`", PAGE)) - {"harness.explain"})
PATHS = sorted(set(re.findall(r"`((?:harness|analysis|conf|tests|benchmarks|experiments)/[\w/.]*)`", PAGE)))


@pytest.mark.parametrize("name", NAMES)
def test_each_function_on_the_way_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute), f"{name} is no longer there: the page is out of date"


def test_the_page_follows_a_row_through_every_package() -> None:
    visited = {".".join(name.split(".")[:2]) for name in NAMES}
    stages = {"data", "models", "train", "noise", "generate", "judge", "probe", "record", "pipeline", "metrics"}
    assert {f"harness.{stage}" for stage in stages} <= visited
    assert {f"analysis.{part}" for part in ("sources", "study", "stats", "tables", "render")} <= visited


@pytest.mark.parametrize("path", PATHS)
def test_each_folder_and_file_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_package_is_on_a_floor_of_the_page() -> None:
    for house in ("harness", "analysis"):
        for package in (each.parent for each in (ROOT / house).glob("*/__init__.py")):
            assert f"`{house}/{package.name}`" in PAGE, package
