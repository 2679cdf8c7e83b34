"""The report in a real browser: the list of runs, tables, figures, and other screens."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from support.browser import PHONE, chromium, complaints
from support.report_page import (
    choose,
    pick,
    saved,
    texts,
    type_into,
    wait_for,
)
from support.run_folders import config_of, write_run

from analysis import load_runs
from analysis.__main__ import main


def test_runs_sort_by_clicking_a_header(opened: Any) -> None:
    for direction in ("ascending", "descending"):
        opened.find_element("css selector", "#list button[data-key='eval/loss']").click()
        assert (
            opened.find_element("css selector", "#list th[aria-sort]:not([aria-sort=none])").get_attribute("aria-sort")
            == direction
        )
        place = [head.text for head in opened.find_elements("css selector", "#list thead th")]
        column = next(i for i, head in enumerate(place) if head.startswith("eval loss"))
        losses = [float(text) for text in texts(opened, f"#list tbody td:nth-child({column + 1})")]
        assert losses == sorted(losses, reverse=direction == "descending")
        assert len(losses) == 6


@pytest.mark.parametrize(
    ("typed", "count"),
    [
        ("symnoise", 2),
        ("noise=symnoise seed=1", 1),
        ("eval/loss<1.3", 2),
        ("judge=gpt4", 1),
        ("nothing", 0),
        ("", 6),
    ],
)
def test_runs_are_filtered_by_settings_and_numbers(opened: Any, typed: str, count: int) -> None:
    type_into(opened, "#filter", typed)
    assert len(opened.find_elements("css selector", "#list tbody tr")) == count
    assert opened.find_element("css selector", "#count").text == f"{count} of 6 finished runs"


def test_a_run_opens_to_its_settings_and_numbers(opened: Any) -> None:
    type_into(opened, "#filter", "noise=symnoise seed=0")
    button = opened.find_element("css selector", "#list .open")
    button.send_keys("\n")
    assert button.get_attribute("aria-expanded") == "true"
    shown = opened.find_element("css selector", "#list .opened").text
    assert "noise.pair\nantithetic" in shown
    assert "eval/loss\n1.25" in shown
    button.send_keys("\n")
    assert not opened.find_elements("css selector", "#list .opened")


def test_a_run_is_chosen_from_the_list(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-symnoise-a5-s0")
    type_into(opened, "#filter", "noise=none seed=1")
    button = opened.find_element("css selector", "#list .pick[data-side=b]")
    button.send_keys("\n")
    assert button.get_attribute("aria-pressed") == "true"
    assert opened.execute_script("return document.activeElement === arguments[0]", button), "the keyboard stays there"
    assert "seed 1" in opened.execute_script("return document.querySelector('#run-b').selectedOptions[0].text")


def test_tables_runs_and_figures_can_be_taken_away(opened: Any, reported: Path) -> None:
    from analysis.tables.computed.verdicts import verdicts

    ours = max(verdicts(load_runs(reported)), key=lambda each: len(each.rows))
    text = saved(opened, "[data-table='0'] button")
    assert text.splitlines()[0].startswith("table,noise,alpha,measure,seeds,difference,")
    assert len(text.splitlines()) == 1 + len(ours.rows)
    type_into(opened, "#filter", "symnoise")
    rows = list(csv.DictReader(saved(opened, "#runs-takes button").splitlines()))
    assert sorted((row["run"], row["seed"], row["eval/loss"]) for row in rows) == [
        ("tiny-symnoise-a5-s0", "0", "1.25"), ("tiny-symnoise-a5-s1", "1", "2.25")
    ]  # fmt: skip
    svg = saved(opened, "figure .take")
    assert svg.startswith("<svg ")
    assert "var(" not in svg


def test_a_copied_table_is_in_the_clipboard(opened: Any) -> None:
    opened.execute_script(
        "window.copied = []; const writeText = async (text) => { window.copied.push(text); };"
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText}});"
    )
    button = opened.find_elements("css selector", "[data-table='0'] button")[1]
    button.send_keys("\n")
    wait_for(opened, "return window.copied.length > 0")
    assert opened.execute_script("return window.copied[0]").startswith("**Verdicts against no noise")
    assert button.text == "Copied"


def test_dark_and_light(opened: Any) -> None:
    colours = set()
    for _ in range(2):
        opened.find_element("css selector", "#theme").click()
        colours.add(opened.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


def test_a_phone_scrolls_in_one_direction(page: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", PHONE) as chrome:
        chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": PHONE[0], "height": PHONE[1], "deviceScaleFactor": 2, "mobile": True},
        )
        chrome.get(page.as_uri())
        wait_for(chrome, "return document.documentElement.dataset.ready === 'yes'")
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
        widths = chrome.execute_script(
            "return [...document.querySelectorAll('figure svg')].map((svg) => svg.getBoundingClientRect().width)"
        )
        assert len(widths) >= 6
        assert sum(width > 0 for width in widths) == len(widths) // 2, "one of the two drawings of each figure"
        assert all(width == 0 or 300 < width <= PHONE[0] for width in widths)


def test_paper_has_every_column(page: Path, tmp_path: Path) -> None:
    paper = {"width": 688, "height": 990, "deviceScaleFactor": 1, "mobile": False}
    with chromium(tmp_path / "profile") as chrome:
        chrome.get(page.as_uri())
        wait_for(chrome, "return document.documentElement.dataset.ready === 'yes'")
        chrome.execute_script("document.querySelector('#tables td').textContent = 'x'.repeat(100)")
        chrome.execute_script("dispatchEvent(new Event('beforeprint'))")
        assert not chrome.find_elements("css selector", "details.block:not([open])")
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", paper)
        width = "return document.documentElement.scrollWidth"
        assert chrome.execute_script(width) <= 700
        chrome.execute_script(
            "document.querySelectorAll('table').forEach((table) => table.style.removeProperty('--fit'))"
        )
        assert chrome.execute_script(width) > 800, "the test needs a table that is too wide"


@pytest.mark.slow
def test_five_hundred_runs_are_listed_in_batches_and_any_two_can_be_compared(tmp_path: Path) -> None:
    for number in range(500):
        config = config_of(("none", "neftune", "symnoise", "gaussian")[number % 4], 5, number // 4)
        write_run(tmp_path / "runs", config, {"eval/loss": number / 100}, [1.0, 2.0] * 20)
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), "-o", str(page)]) == 0
    assert page.stat().st_size < 5e6
    with chromium(tmp_path / "profile") as chrome:
        chrome.get(page.as_uri())
        wait_for(chrome, "return document.documentElement.dataset.ready === 'yes'")
        assert len(chrome.find_elements("css selector", "#list tbody tr")) == 200
        more = chrome.find_element("css selector", "#more-runs")
        assert more.text == "Show 200 more of 300"
        more.send_keys("\n")
        assert len(chrome.find_elements("css selector", "#list tbody tr")) == 400
        type_into(chrome, "#filter", "eval/loss>4.95 symnoise")
        assert texts(chrome, "#list tbody .id") == ["tiny-symnoise-a5-s124"]
        choose(chrome, "#run-b", "tiny-symnoise-a5-s124")
        assert "40 common instructions" in chrome.find_element("css selector", "#pair").text
        assert len(chrome.find_elements("css selector", "#items li")) == 20
        assert complaints(chrome) == []
