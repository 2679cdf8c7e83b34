"""The report: safe whatever a model says, complete or open about what it leaves out, and usable in a real browser."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import os
import random
import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from string import ascii_letters
from typing import Any

import pytest
from support.browser import PHONE, chromium, complaints, requests
from support.run_folders import config_of, write_run

from analysis import load_runs
from analysis.__main__ import main
from analysis.report.answers import pack_answers
from analysis.report.page import report_page
from analysis.report.runlist import ordered
from analysis.report.text import embedded_json
from analysis.study.finding import findings
from harness.record.escape import escape_controls

SCRIPT = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><b>bold</b>"
BIDI = "safe \u202egnp.exe\u202c end \u200f\u2066x\u2069 \u0007"
LONG = "long words " * 4544 + "needle at the end"  # 50,001 characters
LINES = "two \U0001f600" + "\nx" * 647  # 1,299 characters
PREFERENCES = [2.0, 1.0, 1.5, 1.8]


def odd_run(root: Path, config: dict[str, Any], outputs: list[str], preferences: list[float], **options: Any) -> Path:
    """A finished run with these answers, and a judge that wrote to the first; one final number."""
    folder = write_run(root, config, options.pop("final", {"eval/loss": 1.5}), preferences, **options)
    for name, key in (("annotations.json", "output_2"), ("model_outputs.json", "output")):
        rows = json.loads((folder / name).read_text(encoding="utf-8"))
        changed = [{**row, key: output} for row, output in zip(rows, outputs, strict=True)]
        if "annotator" in changed[0]:
            changed[0]["raw_completion"] = "Output (b) <b>is</b> better"
        (folder / name).write_text(json.dumps(changed), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


@pytest.fixture(scope="module")
def page(root: Path) -> Path:
    path = root.parent / "report.html"
    assert main(["report", str(root), "-o", str(path)]) == 0
    return path


# Without a browser


class Elements(HTMLParser):
    """Collects elements; a script's text is kept by its id."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = str(dict(attrs).get("id")) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None


def elements(path: Path) -> Elements:
    parser = Elements()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_the_page_holds_the_answers_as_written_and_nothing_of_them_as_html(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "hacked" not in text
    assert "\u202e" not in text
    found = elements(page)
    data = json.loads(found.scripts["data"])
    (index,) = [i for i, run in enumerate(data["runs"]) if run["id"] == "tiny-symnoise-a5-s0"]
    answers = unpacked(found.scripts[f"run-{index}"])
    assert answers["outputs"] == [SCRIPT, BIDI, LONG, LINES]
    assert answers["lengths"] == [len(SCRIPT), len(BIDI), len(LONG), 1299]
    assert answers["wins"] == [1.0, 0.0, 0.5, 0.8]
    assert unpacked(found.scripts["shared"])[0] == {
        "instruction": "Question 0",
        "category": "family0",
        "reference": "r" * 8,
    }


def test_the_page_asks_for_nothing(page: Path) -> None:
    outside = {"src", "srcset", "action", "data", "poster", "ping", "manifest"}
    for tag, attributes in elements(page).tags:
        assert not outside & set(attributes), (tag, attributes)
        address = attributes.get("href") or attributes.get("xlink:href") or "#"
        assert address.startswith("#") or address == "data:,", (tag, attributes)
    policy = next(a["content"] for tag, a in elements(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.replace("style-src-attr 'unsafe-inline'", "")
    assert "@import" not in page.read_text(encoding="utf-8")


def test_ids_are_unique(page: Path) -> None:
    ids = [attributes["id"] for _, attributes in elements(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_run_is_accounted_for(page: Path) -> None:
    text = re.sub(r"<script.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "6 finished, 1 failed, 1 diverged, 1 duplicate." in text.replace(
        "1 diverged, 1 failed", "1 failed, 1 diverged"
    )
    assert "ValueError: row 3 has no output" in text
    assert "same settings and seed as tiny-symnoise-a5-s1" in text
    assert "2 judges: win rates of different judges" in text
    assert "2 settings have a single run" in text


def test_the_page_opens_with_what_was_found(tmp_path: Path) -> None:
    generator = random.Random(3)
    for noise in ("none", "neftune", "symnoise"):
        for seed in range(3):
            won = [1.5 if generator.random() < (0.9 if noise == "symnoise" else 0.4) else 1.0 for _ in range(200)]
            write_run(tmp_path, config_of(noise, 5, seed), {"eval/loss": 1.0}, won)
    runs = load_runs(tmp_path)
    text, _ = report_page(runs, "runs")
    opening = text[: text.index('<section id="figures">')]
    shown = re.sub(r"<[^>]+>", "", opening).replace("&lt;", "<")
    for finding in findings(runs):
        assert str(finding) in shown
        assert "95% interval" in shown
    assert opening.count('<li class="shown">') == 1
    assert opening.count('<svg class="strip"') == 2
    assert "tiny on builtin, judged by reference, 200 instructions" in shown


def test_a_study_without_a_baseline_says_that_it_finds_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune"))
    text, _ = report_page(load_runs(tmp_path), "runs")
    assert "No finding: no finished run is without noise." in text[: text.index('<section id="figures">')]


def test_the_same_runs_give_the_same_page(root: Path, page: Path) -> None:
    again, _ = report_page(load_runs(root), str(root))
    made = re.compile(r"Made .* by noise-harness")
    assert made.sub("", again) == made.sub("", page.read_text(encoding="utf-8"))


def test_a_page_too_small_for_all_answers_says_whose_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(0)
    for seed in range(6):
        outputs = ["".join(generator.choices(ascii_letters, k=4000)) for _ in PREFERENCES]
        odd_run(tmp_path / "runs", config_of("none", seed=seed), outputs, PREFERENCES)
    whole, answers = report_page(load_runs(tmp_path / "runs"), "runs")
    limit = (len(whole.encode()) - 3 * len(answers.packed[0])) / 1e6
    path = tmp_path / "small.html"
    assert main(["report", str(tmp_path / "runs"), "-o", str(path), "--max-mb", f"{limit}"]) == 0
    assert path.stat().st_size <= limit * 1e6
    kept = json.loads(elements(path).scripts["data"])["answers"]
    assert kept in ([0, 1], [0, 1, 2])
    said = f"answers of {len(kept)} of 6 runs"
    assert said in capsys.readouterr().out
    assert said in path.read_text(encoding="utf-8")


def test_answers_are_left_out_fairly(tmp_path: Path) -> None:
    for noise in ("none", "neftune"):
        for seed in range(3):
            write_run(tmp_path, config_of(noise, 5, seed), preferences=[1.0] * 50)
    records = ordered(load_runs(tmp_path))
    everything = pack_answers(records, 10**9)
    assert not everything.left_out
    room = len(everything.shared) + sum(map(len, list(everything.packed.values())[:4]))
    kept = [records[index] for index in pack_answers(records, room).packed]
    assert sorted((run.config["noise"]["name"], run.config["seed"]) for run in kept) == [
        ("neftune", 0), ("neftune", 1), ("none", 0), ("none", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nowhere"], "source=nowhere: no such folder"),
        (["report", "{root}", "--max-mb", "0.01"], "max_mb=0.01: without any answer the page is"),
        (["report", "{root}", "--group", "x"], "group=x: no run of it in"),
    ],
)
def test_mistakes_are_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    target = tmp_path / "report.html"
    assert main([*(argument.format(root=root) for argument in arguments), "-o", str(target)]) == 2
    assert message in capsys.readouterr().err
    assert not target.exists()


def test_a_source_without_a_finished_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, config_of("none"), status="failed")
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "report.html")]) == 2
    assert "no finished run" in capsys.readouterr().err


def test_runs_that_were_only_trained_have_a_page(tmp_path: Path) -> None:
    for noise in ("none", "neftune"):
        folder = write_run(tmp_path / "runs", config_of(noise, 5), {"eval/loss": 1.0})
        summary = {"run_id": folder.name, "status": "finished", "final": {"eval/loss": 1.0}}
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        (folder / "annotations.json").unlink()
        (folder / "model_outputs.json").unlink()
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "2 runs have no answers" in text
    assert "length_histograms: not drawn: needs answers" in text
    assert "win_rate_by_length: not drawn: needs judged answers" in text


def test_names_that_nobody_should_give_are_text_without_effect(tmp_path: Path) -> None:
    evil = "</script><!-- ]]><b>\u202egnp\u0000"
    config = config_of(evil, 5, model__name=evil, dataset__name=evil, judge__name=evil, train__optimizer=evil)
    config["tracking"]["group"] = config["experiment"] = evil
    folder = odd_run(tmp_path / "runs", config, ["torn \ud83d", "b", "c", "d"], PREFERENCES, name="evil")
    rows = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    changed = [{**row, "dataset": evil, "annotator": evil, "instruction": evil, "output_1": evil} for row in rows]
    (folder / "annotations.json").write_text(json.dumps(changed), encoding="utf-8")
    (folder / "provenance.json").write_text(json.dumps({"command": ["", evil], "git": {"commit": evil}}))
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), "-o", str(page), "--title", evil, "--note", evil]) == 0
    text = page.read_text(encoding="utf-8")
    assert not re.search("[\u202e\u0000]|]]><b>", text)
    assert {tag for tag, _ in elements(page).tags} & {"b", "i", "img"} == set()
    assert unpacked(elements(page).scripts["run-0"])["outputs"][0] == "torn \ufffd"


def test_a_long_reason_is_folded(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"))
    failed = write_run(tmp_path, config_of("neftune"), status="failed")
    (failed / "failed").write_text(json.dumps({"type": "ValueError", "message": "why " * 5000}), encoding="utf-8")
    text, _ = report_page(load_runs(tmp_path), "runs")
    head, _, tail = text.partition("<details><summary>all 20,011 characters</summary>")
    assert head.count("why ") < 100
    assert tail.count("why ") >= 4999


def test_two_evaluation_sets_are_a_caution(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"))
    write_run(tmp_path, config_of("none", eval_set__name="alpaca_eval"), name="other")
    text, _ = report_page(load_runs(tmp_path), "runs")
    assert "2 evaluation sets: win rates on different instructions stand in different tables" in text


def test_text_is_made_visible_and_json_cannot_end_its_element() -> None:
    assert escape_controls("a\u202eb\u0007") == "a⟨RLO⟩b⟨U+0007⟩"
    assert "<" not in embedded_json({"a": "</script><!--"})
    assert json.loads(embedded_json({"a": "</script>&\u2028"})) == {"a": "</script>&\u2028"}


# In a browser


@pytest.fixture(scope="module")
def opened(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page, open in Chromium until the last test; nothing was asked of a network and nothing complained."""
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        chrome.get(page.as_uri())
        wait_for(chrome, "return document.documentElement.dataset.ready === 'yes'")
        yield chrome
        assert [url for url in requests(chrome) if not url.startswith(("data:", page.as_uri()))] == []
        assert complaints(chrome) == []


def wait_for(chrome: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(chrome, 30).until(lambda driver: driver.execute_script(condition))


def texts(chrome: Any, selector: str) -> list[str]:
    return [element.text for element in chrome.find_elements("css selector", selector)]


def type_into(chrome: Any, selector: str, text: str) -> None:
    from selenium.webdriver.common.keys import Keys

    field = chrome.find_element("css selector", selector)
    if field.get_attribute("value") != text:
        field.send_keys(Keys.CONTROL + "a")
        field.send_keys(Keys.BACKSPACE + text)
        # The page waits for a pause in typing before it searches.
        chrome.execute_async_script("setTimeout(arguments[0], 250)")


def choose(chrome: Any, selector: str, part: str) -> None:
    from selenium.webdriver.support.ui import Select

    field = Select(chrome.find_element("css selector", selector))
    (text,) = [option.text for option in field.options if part in option.text]
    field.select_by_visible_text(text)
    wait_for(chrome, "return document.querySelector('#pair').getAttribute('aria-busy') === 'false'")


def pick(chrome: Any, first: str, second: str) -> None:
    """Two runs side by side, nothing searched for or filtered."""
    choose(chrome, "#run-a", first)
    choose(chrome, "#run-b", second)
    for field in ("#search", "#filter"):
        type_into(chrome, field, "")
    choose(chrome, "#verdicts", "all")
    choose(chrome, "#order", "as asked")


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


def test_a_run_is_chosen_from_the_list(opened: Any) -> None:
    pick(opened, "tiny-none-s0", "tiny-symnoise-a5-s0")
    type_into(opened, "#filter", "noise=none seed=1")
    button = opened.find_element("css selector", "#list .pick[data-side=b]")
    button.send_keys("\n")
    assert button.get_attribute("aria-pressed") == "true"
    assert opened.execute_script("return document.activeElement === arguments[0]", button), "the keyboard stays there"
    assert "seed 1" in opened.execute_script("return document.querySelector('#run-b').selectedOptions[0].text")


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


def saved(chrome: Any, selector: str) -> str:
    """What a button saves as a file: the text of the blob that it makes."""
    chrome.execute_script(
        "window.blobs = []; const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { window.blobs.push(blob); return make(blob); };"
    )
    chrome.find_element("css selector", selector).send_keys("\n")
    wait_for(chrome, "return window.blobs.length > 0")
    return str(chrome.execute_async_script("window.blobs[0].text().then(arguments[0])"))


def test_tables_runs_and_figures_can_be_taken_away(opened: Any, root: Path) -> None:
    from analysis.tables.computed.verdicts import verdicts

    ours = max(verdicts(load_runs(root)), key=lambda each: len(each.rows))
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
