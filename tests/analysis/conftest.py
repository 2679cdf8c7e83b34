"""The report that several files test, built once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import chromium, complaints, requests
from support.report_page import (
    BIDI,
    LINES,
    LONG,
    PREFERENCES,
    SCRIPT,
    odd_run,
    wait_for,
)
from support.run_folders import config_of, write_run

from analysis.__main__ import main


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep as it comes out of real life: hostile answers, lost runs, a repeated seed, a second judge."""
    folder = tmp_path_factory.mktemp("report") / "runs"
    for seed in range(2):
        odd_run(folder, config_of("none", seed=seed), ["short", "plain", "equal", "four"], [1.0, 1.0, 1.5, 1.0])
        outputs = [SCRIPT, BIDI, LONG, LINES]
        final = {"eval/loss": 1.25 + seed}
        odd_run(folder, config_of("symnoise", 5, seed), outputs, PREFERENCES, final=final)
    old = write_run(folder, config_of("symnoise", 5, 1, output_dir="elsewhere"), name="again-symnoise-s1")
    os.utime(old / "done", (1000, 1000))
    write_run(folder, config_of("neftune", 5), status="failed")
    write_run(folder, config_of("neftune", 100), status="diverged")
    write_run(folder, config_of("neftune", 15, judge__name="gpt4"), {"eval/loss": 1.0})
    trained = write_run(folder, config_of("gaussian", 5), name="tiny-gaussian-trained")
    for name in ("annotations.json", "model_outputs.json"):
        (trained / name).unlink()
    summary = {"run_id": trained.name, "status": "finished", "final": {"eval/loss": 1.75}}
    (trained / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def page(reported: Path) -> Path:
    path = reported.parent / "report.html"
    assert main(["report", str(reported), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def opened(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page, open in Chromium until the last test; nothing was asked of a network and nothing complained."""
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        chrome.get(page.as_uri())
        wait_for(chrome, "return document.documentElement.dataset.ready === 'yes'")
        yield chrome
        assert [url for url in requests(chrome) if not url.startswith(("data:", page.as_uri()))] == []
        assert complaints(chrome) == []
