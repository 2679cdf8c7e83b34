"""The report without a browser: safe whatever a model says, complete, or open about what it leaves out."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from string import ascii_letters

import pytest
from support.report_page import (
    BIDI,
    LINES,
    LONG,
    PREFERENCES,
    SCRIPT,
    elements,
    odd_run,
    unpacked,
)
from support.run_folders import config_of, write_run

from analysis import load_runs
from analysis.__main__ import main
from analysis.report.answers import pack_answers
from analysis.report.page import report_page
from analysis.report.runlist import ordered
from analysis.report.text import embedded_json
from analysis.study.finding import findings
from harness.record.escape import escape_controls


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


def test_the_same_runs_give_the_same_page(reported: Path, page: Path) -> None:
    again, _ = report_page(load_runs(reported), str(reported))
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
        (["report", "{reported}", "--max-mb", "0.01"], "max_mb=0.01: without any answer the page is"),
        (["report", "{reported}", "--group", "x"], "group=x: no run of it in"),
    ],
)
def test_mistakes_are_one_line(
    reported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    target = tmp_path / "report.html"
    assert main([*(argument.format(reported=reported) for argument in arguments), "-o", str(target)]) == 2
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
