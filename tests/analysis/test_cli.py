"""python -m analysis as a user types it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import environment
from support.run_folders import config_of, write_run

from analysis.__main__ import main
from analysis.commands.compare import compare
from analysis.commands.status import age, status
from analysis.render.table import Table
from analysis.tables.computed.registry import COMPUTED
from analysis.tables.layouts import LAYOUTS
from harness.record import RunFolder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with runs/ in it, as the working directory."""
    root = tmp_path / "runs"
    write_run(root, config_of("none"), {"eval/loss": 2.0}, [1.0, 1.0, 1.5, 2.0])
    write_run(root, config_of("symnoise", 5), {"eval/loss": 1.5, "only": 3.0}, [2.0, 1.0, 1.0, 2.0])
    monkeypatch.chdir(tmp_path)
    return root


def test_without_a_command_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("table", "compare", "status", "dashboard"))


@pytest.mark.usefixtures("runs")
def test_table_alone_prints_the_ablation_of_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table"]) == 0
    printed = capsys.readouterr().out
    assert "Noise and alpha (model=tiny, dataset=builtin, eval_set=builtin, judge=reference)" in printed
    assert "symnoise" in printed


def test_table_list_names_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [*LAYOUTS, *COMPUTED, "custom"]


@pytest.mark.usefixtures("runs")
def test_a_table_goes_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "differences", "runs", "--format", "latex", "-o", "table.tex"]) == 0
    assert capsys.readouterr().out == "wrote table.tex\n"
    assert r"\begin{tabular}" in Path("table.tex").read_text(encoding="utf-8")


@pytest.mark.usefixtures("runs")
def test_custom_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "custom", "--rows", "noise", "--columns", "alpha", "--metrics", "eval/loss"]) == 0
    assert re.search(r"eval\s+loss", capsys.readouterr().out)


@pytest.mark.usefixtures("runs")
def test_custom_takes_spaces_and_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "custom", "--rows", "noise, alpha", "--metrics", "eval/los?, judge/win_rate"]) == 0
    printed = capsys.readouterr().out
    assert "2.000" in printed  # the eval loss, whose heading takes two lines
    assert "characters" in printed


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "ablatio"], "table 'ablatio': there is no such table; did you mean ablation?"),
        (["table", "Alpha-Grid"], "did you mean alpha_grid?"),
        (["table", "something"], "there is no such table; choose from ablation"),
        (["table", "runs"], "table 'runs': there is no such table, but a folder; `python -m analysis table NAME runs`"),
        (["table", "ablation", "-o", "nowhere/table.md"], "-o nowhere/table.md: No such file or directory"),
        (["table", "custom", "--rows", "noice"], "noice: not a setting of these runs; did you mean noise?"),
        (["table", "custom", "--rows", "noise, lr"], "lr: not a setting of these runs; did you mean train.lr?"),
        (["table", "custom", "--columns", "noise,alpha"], "--columns noise,alpha: one setting"),
        (["table", "custom", "--rows", "alpha", "--baseline", "none"], "noise is not among --rows alpha"),
        (["table", "custom", "--metrics", "win_rate"], "win_rate: no finished run has it; did you mean judge/win_rate"),
        (["table", "custom", "--metrics", "length"], "length: no finished run has it; it is generate/characters"),
        (["table", "custom", "--metrics", "eval_loss"], "did you mean eval/loss?"),
        (["table", "custom", "--metrics", "nothing/*"], "nothing/*: no finished run has it; summary.json"),
        (["table", "ablation", "nowhere"], "source=nowhere: no such folder"),
        (["table", "ablation", "--rows", "noise"], "only for the table custom"),
        (["table", "ablation", "--baseline", "none"], "only for the table custom"),
        (["table", "custom", "--baseline", "neftun"], "--baseline neftun: no finished run of that noise; there are "),
        (["table", "custom", "--differences", "eval/loss"], "--differences eval/loss: not among --metrics"),
        (["table", "ablation", "runs", "--group", "x"], "group=x: no run of it in runs; there are sweep"),
        (["compare", "none", "tiny"], "run 'tiny': 2 runs in runs go by it: tiny-none-s0, tiny-symnoise-a5-s0"),
        (["compare", "none", "gaussian"], "run 'gaussian': no run in runs goes by it; there is tiny-none-s0"),
        (["compare", "none", "none"], "are the same run"),
        (["status", "nowhere"], "source=nowhere: no such folder"),
        (
            ["notebooks", "runs", "--only", "ablatio"],
            "notebook 'ablatio': there is no such notebook; choose from ablation",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err


def rows(table: Table) -> dict[str, list[object]]:
    return {labels[0]: list(values) for labels, values in table.rows}


def test_compare_shows_settings_results_and_verdicts(runs: Path) -> None:
    settings, results = compare("none", str(runs / "tiny-symnoise-a5-s0"))
    assert rows(settings)["noise.pair"] == ["none", "antithetic"]
    assert "seed" not in rows(settings)
    assert rows(results)["eval/loss"] == ["2.000", "1.500", "-0.500", -25.0]
    assert rows(results)["judge/win_rate"][:3] == ["37.5", "50.0", "+12.5"]
    assert rows(results)["judge/win_rate"][3] == pytest.approx(100 / 3)
    assert rows(results)["only"] == [pytest.approx(float("nan"), nan_ok=True), "3", "", ""]
    assert "better on 1, worse on 1, equal on 2: +12.5 points" in results.notes[0]


def test_compare_shows_code_and_machine_that_differ(runs: Path) -> None:
    for name, commit, torch in (("tiny-none-s0", "abc", "2.13"), ("tiny-symnoise-a5-s0", "def", "2.13")):
        found = {
            "git": {"commit": commit, "diff": ""},
            "versions": {"torch": torch},
            "started_at": name,
            "command": [name],
        }
        (runs / name / "provenance.json").write_text(json.dumps(found))
    settings, code, _ = compare("none", "symnoise")
    assert rows(code) == {"git.commit": ["abc", "def"]}
    (runs / "tiny-none-s0" / "provenance.json").unlink()
    assert [each.name for each in compare("none", "symnoise")] == ["settings", "results"]
    assert settings.name == "settings"


def test_compare_does_not_mix_judges(runs: Path) -> None:
    other = write_run(runs, config_of("none", judge__name="gpt4"), name="other")
    notes = compare(str(other), "symnoise")[1].notes
    assert notes == ["different judges (gpt4 and reference): their win rates do not compare"]
    assert rows(compare(str(other), "symnoise")[1])["judge/win_rate"][2:] == ["", ""]
    (other / "config.yaml").write_text("alpha: 1\n")
    with pytest.raises(ValueError, match=r"other': its config\.yaml is not one of this harness"):
        compare(str(other), "symnoise")


def test_status_says_how_far_and_why_not(runs: Path) -> None:
    write_run(runs, config_of("neftune", seed=1), status="failed")
    history = [{"step": 40, "train/epoch": 0.25}]
    settings = {"dataset__size": 4096, "train__epochs": 2}
    running = write_run(runs, config_of("neftune", seed=2, **settings), status="incomplete", history=history)
    limited = config_of("neftune", seed=3, train__max_steps=100)
    write_run(runs, limited, status="incomplete", history=[{"step": 40}])
    write_run(runs, config_of("none"), name="copy")
    with RunFolder(running).locked():
        table = status("runs", now=time.time() + 90)
    assert table.title == "6 runs in runs: 1 running, 1 incomplete, 1 failed, 1 duplicate, 2 finished"
    found = rows(table)
    assert [str(row[0]) for row in found.values()] == [
        "running", "incomplete", "failed", "duplicate", "finished", "finished"
    ]  # fmt: skip
    assert found[running.name][1] == "0 of 3 stages, train: step 40 (12%)"
    assert found["tiny-neftune-a5-s3"][1] == "0 of 3 stages, train: step 40 of 100"
    assert str(found[running.name][2]).startswith("1 min 3")
    assert found["tiny-neftune-a5-s1"][3] == "ValueError: row 3 has no output"
    assert found["tiny-symnoise-a5-s0"][1] == "3 of 3 stages"
    at_judge = write_run(runs, config_of("neftune", seed=4), status="incomplete")
    entry = {"fingerprint": "f", "seconds": 1.0, "figures": {}}
    (at_judge / "stages.json").write_text(json.dumps({"train": entry, "generate": entry}))
    assert rows(status("runs"))[at_judge.name][1] == "2 of 3 stages, judge"


def test_status_says_how_many_runs_wait(tmp_path: Path) -> None:
    """Runs carry their place in the sweep's queue; one that starts over is the newest, whatever its place."""
    for place, status_of in ((1, "finished"), (2, "finished"), (3, "incomplete")):
        config = config_of("neftune", seed=place, harness__position=f"{place}/8")
        folder = write_run(tmp_path, config, status=status_of)
        os.utime(folder / "config.yaml", (1000 + place, 1000 + place))
    assert status(str(tmp_path)).notes == ["sweep: 5 of 8 not started"]
    with RunFolder(folder).locked():
        assert status(str(tmp_path)).notes == ["sweep: 5 of 8 not started; about 15 s at the pace of its finished runs"]
    write_run(tmp_path, config_of("neftune", seed=9, harness__position="2/2"), status="incomplete")
    assert status(str(tmp_path)).notes == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "5 s ago"), (65, "1 min 5 s ago"), (3660, "1 h 1 min ago"), (90_000, "1 d 1 h ago"), (-3, "0 s ago")],
)
def test_ages(seconds: float, said: str) -> None:
    assert age(seconds) == said


@pytest.mark.usefixtures("runs")
def test_as_a_module_without_heavy_imports() -> None:
    """Tables need pandas; they must not wait for torch, transformers, matplotlib, scipy.stats or wandb."""
    code = (
        "import sys; from analysis.__main__ import main; main(['table']);"
        "heavy = {'torch', 'transformers', 'matplotlib', 'scipy.stats', 'wandb', 'sklearn'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(PYTHONIOENCODING="utf-8")
    )
    assert done.returncode == 0, done.stderr
    assert "symnoise" in done.stdout


@pytest.mark.usefixtures("runs")
def test_sources_may_be_several_and_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("more"), config_of("gaussian"))
    assert main(["table", "ablation", "--format", "csv", "runs", "more"]) == 0
    printed = capsys.readouterr().out
    assert all(noise in printed for noise in ("none", "symnoise", "gaussian"))
    assert main(["table", "--where", "noise=none,gaussian", "ablation", "runs", "more"]) == 0
    assert "symnoise" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["table", "ablation", "runs", "--nothing"])


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("noise", "--where noise: expected SETTING=VALUE"),
        ("noise=x", "where noise=x: no run has it; there are none, symnoise"),
    ],
)
def test_a_wish_that_cannot_be_met(capsys: pytest.CaptureFixture[str], wish: str, message: str) -> None:
    for command in (["table", "ablation"], ["status"], ["figures"], ["report"]):
        assert main([*command, "runs", "--where", wish]) == 2
        assert message in capsys.readouterr().err


def test_many_finished_runs_do_not_push_the_others_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(21):
        write_run(tmp_path, config_of("none", seed=seed))
    write_run(tmp_path, config_of("neftune"), status="failed")
    assert main(["status", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "22 runs" in printed
    assert "tiny-neftune-a5-s0" in printed
    assert "tiny-none-s0" not in printed
    assert "21 finished runs are not listed" in printed
    assert main(["status", str(tmp_path), "--all"]) == 0
    assert "tiny-none-s20" in capsys.readouterr().out


def test_watching_ends_with_the_last_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = write_run(runs, config_of("neftune"), status="incomplete")
    waits: list[float] = []
    lock = RunFolder(running).locked()
    lock.__enter__()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            lock.__exit__(None, None, None)

    monkeypatch.setattr("analysis.commands.status.time.sleep", wait)
    assert main(["status", "runs", "--watch"]) == 0
    assert waits == [10.0, 10.0]  # a second look: between two runs none is running


@pytest.mark.usefixtures("runs")
def test_a_pipe_that_closes_and_a_terminal_of_ascii(tmp_path: Path) -> None:
    given = environment(PYTHONIOENCODING="ascii")
    command = f"{sys.executable} -m analysis table differences runs"
    done = subprocess.run(command.split(), capture_output=True, text=True, env=given, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    closed = f"{command} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", closed], capture_output=True, text=True, env=given, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.usefixtures("runs")
def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.sources.runs.load_runs", interrupt)
    assert main(["table"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
