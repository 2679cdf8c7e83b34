"""The report in a real browser: two runs' answers side by side."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from support.browser import chromium, complaints
from support.report_page import (
    LONG,
    PREFERENCES,
    SCRIPT,
    choose,
    pick,
    texts,
    type_into,
    wait_for,
)
from support.run_folders import config_of, write_run

from analysis.__main__ import main


def test_html_in_an_answer_stays_text(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-symnoise-a5-s0")
    shown = opened.find_element("css selector", "#items li:nth-child(1) .answer:nth-child(2) .text")
    assert shown.text == SCRIPT
    assert not opened.find_elements("css selector", "#items img, #items script, #items b")
    assert opened.execute_script("return window.hacked") is None


def test_the_judges_reply_can_be_read(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-symnoise-a5-s0")
    replies = opened.find_elements("css selector", "#items .answer details")
    assert len(replies) == 2
    replies[1].find_element("css selector", "summary").send_keys("\n")
    assert "Output (b) <b>is</b> better" in replies[1].text


def test_direction_marks_are_shown_and_have_no_effect(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-symnoise-a5-s0")
    shown = opened.find_element("css selector", "#items li:nth-child(2) .answer:nth-child(2) .text")
    assert shown.tag_name == "bdi"
    assert shown.text == "safe RLOgnp.exePDF end RLMLRIxPDI U+0007"
    assert "\u202e" not in opened.execute_script("return document.body.innerText")


def test_long_answers_are_folded_and_can_be_opened(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-symnoise-a5-s0")
    answer = opened.find_element("css selector", "#items li:nth-child(3) .answer:nth-child(2)")
    fold = answer.find_element("css selector", ".fold")
    assert fold.text == "Show all 50,001 characters"
    assert len(answer.find_element("css selector", ".text").text) < 2000
    fold.send_keys("\n")
    assert answer.find_element("css selector", ".text").text == LONG
    assert "50,001 characters (+49,996)" in answer.find_element("css selector", "h4").text


def test_many_short_lines_are_folded(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-symnoise-a5-s0")
    answer = opened.find_element("css selector", "#items li:nth-child(4) .answer:nth-child(2)")
    assert answer.find_element("css selector", ".fold").text == "Show all 1,299 characters"
    assert answer.find_element("css selector", ".text").text.splitlines()[-1] == "x …"
    assert len(answer.find_element("css selector", ".text").text.splitlines()) == 30


def test_search_verdicts_and_order(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-symnoise-a5-s0")
    assert "B better on 2, worse on 0, equal on 2" in opened.find_element("css selector", "#pair").text
    assert texts(opened, "#items .answer:nth-child(2) .verdict") == ["wins", "loses", "draw", "wins (0.80)"]
    type_into(opened, "#search", "NEEDLE")
    assert len(opened.find_elements("css selector", "#items li")) == 1
    assert "1 match below" in opened.find_element("css selector", "#items .fold").text
    type_into(opened, "#search", "window.hacked")
    assert texts(opened, "#items mark") == ["window.hacked", "window.hacked"]
    type_into(opened, "#search", "")
    choose(opened, "#verdicts", "B better")
    assert texts(opened, "#items .number-of") == ["#1 · family0", "#4 · family3"]
    choose(opened, "#verdicts", "all")
    choose(opened, "#order", "largest length difference")
    assert texts(opened, "#items .number-of")[0] == "#3 · family2"


def test_runs_of_different_judges_are_not_compared(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-neftune-a15")
    said = opened.find_element("css selector", "#pair").text
    assert "Different judges: their verdicts do not compare" in said
    assert "percentage points" not in said


def test_missing_verdicts_are_counted(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", config_of("none"), preferences=[1.0, None, 2.0, 2.0])
    write_run(tmp_path / "runs", config_of("neftune"), preferences=[None, 1.0, 1.0, 2.0])
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), "-o", str(page)]) == 0
    with chromium(tmp_path / "profile") as chrome:
        chrome.get(page.as_uri())
        wait_for(chrome, "return document.documentElement.dataset.ready === 'yes'")
        shown = chrome.find_element("css selector", "#pair").text
        assert "B better on 0, worse on 1, equal on 1, 2 without a verdict in both" in shown
        assert "B − A: −50.0 ± 98.0 percentage points" in shown


def test_runs_without_answers_are_compared_by_settings_and_numbers(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-gaussian-trained")
    shown = opened.find_element("css selector", "#pair")
    assert "This page has no answers of B; settings and numbers are below." in shown.text
    for summary in shown.find_elements("css selector", "summary"):
        summary.send_keys("\n")
    assert "noise.distribution none gaussian" in shown.text
    assert "eval/loss 1.500 1.750 +0.250" in shown.text
    assert not opened.find_elements("css selector", "#items li")


def test_a_link_opens_what_was_seen_and_back_leads_to_the_pair_before(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-symnoise-a5-s0")
    choose(opened, "#verdicts", "B better")
    choose(opened, "#category", "family3")
    type_into(opened, "#filter", "seed=0")
    link = opened.current_url
    assert "a=tiny-none-s0&b=tiny-symnoise-a5-s0" in link
    choose(opened, "#run-b", "tiny-symnoise-a5-s1")
    opened.back()
    wait_for(opened, "return document.querySelector('#run-b').selectedOptions[0].text.includes('a5-s0')")
    opened.get("about:blank")
    opened.get(link)
    wait_for(opened, "return document.documentElement.dataset.ready === 'yes'")
    assert texts(opened, "#items .number-of") == ["#4 · family3"]
    assert opened.find_element("css selector", "#verdicts").get_attribute("value") == "b"
    assert opened.find_element("css selector", "#count").text == "4 of 6 finished runs"
    choose(opened, "#category", "all")


def test_answers_open_on_those_whose_verdicts_differ(tmp_path: Path) -> None:
    for name, ours in (("differ", PREFERENCES), ("all", [1.0, 1.0, 1.5, 1.0])):
        write_run(tmp_path / name, config_of("none"), preferences=[1.0, 1.0, 1.5, 1.0])
        write_run(tmp_path / name, config_of("gaussian", judge__name="gpt4"), preferences=ours)
        write_run(tmp_path / name, config_of("symnoise"), preferences=ours)
        assert main(["report", str(tmp_path / name), "-o", str(tmp_path / f"{name}.html")]) == 0
    with chromium(tmp_path / "profile") as chrome:
        for name, shown in (("differ", 2), ("all", 4)):
            chrome.get((tmp_path / f"{name}.html").as_uri())
            wait_for(chrome, "return document.documentElement.dataset.ready === 'yes'")
            assert chrome.find_element("css selector", "#verdicts").get_attribute("value") == name
            assert len(chrome.find_elements("css selector", "#items li")) == shown
            chosen = "return document.querySelector('#run-b').selectedOptions[0].text"
            assert "symnoise" in chrome.execute_script(chosen), "of the same judge"


def test_what_slipped_through_could_still_do_nothing(page: Path, tmp_path: Path) -> None:
    """The page's policy: no other script, no HTML out of strings, no request."""
    from selenium.common.exceptions import JavascriptException

    with chromium(tmp_path / "profile") as chrome:
        chrome.get(page.as_uri())
        with pytest.raises(JavascriptException, match="TrustedHTML"):
            chrome.execute_script("document.body.insertAdjacentHTML('beforeend', '<b>text</b>')")
        with pytest.raises(JavascriptException, match="TrustedScript"):
            chrome.execute_script("document.body.append(Object.assign(document.createElement('script'), {text: '1'}))")
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"http://127.0.0.1:{server.getsockname()[1]}/"
            chrome.execute_script("document.body.append(Object.assign(new Image(), {src: arguments[0]}))", address)
            chrome.execute_async_script("fetch(arguments[0]).catch(() => {}).then(arguments[1])", address)
            server.settimeout(0.5)
            with pytest.raises(TimeoutError):
                server.accept()
        assert len(complaints(chrome)) >= 2
