"""Run folders as tidy frames: what is kept, what is left out and why (how fast: benchmarks/loading.py)."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from support.run_folders import config_of, write_run

from analysis import load_runs
from analysis.__main__ import main
from analysis.sources.select import content_settings, flatten, read_records
from analysis.study.comparable import settings_of, split
from harness.record import RunFolder


def test_frames_hold_what_the_files_hold(tmp_path: Path) -> None:
    history = [{"step": 1, "train/loss": 2.5}, {"step": 2, "train/loss": None, "eval/loss": 3}]
    config = config_of("neftune", 5, seed=2, train__lr=5e-5)
    folder = write_run(tmp_path, config, {"train/loss": 1.5}, [1.0, 1.5, 1.8, None], [3, 4, 5, 6], history)
    runs = load_runs(tmp_path)
    row = runs.runs.iloc[0]
    assert (row["run_id"], row["noise"], row["alpha"], row["seed"]) == (folder.name, "neftune", 5.0, 2)
    assert (row["judge"], row["group"], row["train/loss"]) == ("reference", "sweep", 1.5)
    assert runs.configs.loc[folder.name, "train.lr"] == 5e-5
    assert runs.configs.loc[folder.name, "alpha"] == 5
    assert runs.history["step"].tolist() == [1, 2]
    assert np.isnan(runs.history["train/loss"].iloc[1])
    assert runs.history["eval/loss"].tolist()[1] == 3.0
    assert runs.generations["length"].tolist() == [3, 4, 5, 6]
    assert runs.generations["dataset"].tolist() == ["family0", "family1", "family2", "family3"]
    assert runs.preferences["model_wins"].tolist()[:3] == pytest.approx([0.0, 0.5, 0.8])
    assert np.isnan(runs.preferences["model_wins"].iloc[3])
    assert (runs.preferences["reference_length"] == 8).all()


def test_no_failed_diverged_unfinished_or_duplicate_run_is_among_the_runs(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"))
    write_run(tmp_path, config_of("neftune", seed=1), status="failed")
    write_run(tmp_path, config_of("neftune", seed=2), status="diverged")
    write_run(tmp_path, config_of("neftune", seed=3), status="incomplete")
    runs = load_runs(tmp_path)
    assert runs.runs["run_id"].tolist() == ["tiny-none-s0"]
    reasons = dict(zip(runs.excluded["status"], runs.excluded["reason"], strict=True))
    assert reasons["failed"] == "ValueError: row 3 has no output"
    assert reasons["diverged"] == "training met NaN or infinity"
    assert reasons["incomplete"].startswith("interrupted")
    assert runs.excluded["seed"].tolist() == [1, 2, 3]
    assert len(load_runs(tmp_path, include=("finished", "diverged")).runs) == 2


def test_data_that_changed_under_one_path_stand_apart(tmp_path: Path) -> None:
    """Two data sets, two seeds each: what lay at the path is in provenance.json."""
    for seed, (content, loss) in enumerate((("aa", 0.005), ("aa", 0.007), ("bb", 0.036), ("bb", 0.038))):
        config = config_of("neftune", seed=seed % 2, dataset__path="rows.json")
        folder = write_run(tmp_path, config, {"eval/loss": loss}, name=f"run{seed}")
        (folder / "provenance.json").write_text(json.dumps({"files": {"dataset.path": content * 32}}))
    runs = load_runs(tmp_path)
    assert runs.excluded.empty  # seed 0 of either is no duplicate of the other
    parts = split(settings_of(runs), ["noise"])
    losses = runs.runs.set_index("run_id")["eval/loss"]
    means = {part.shared["dataset"]: losses[part.settings.index].mean() for part in parts}
    assert means == {
        "builtin (path_content=aaaaaaaaaaaa)": pytest.approx(0.006),
        "builtin (path_content=bbbbbbbbbbbb)": pytest.approx(0.037),
    }


def test_a_copy_that_lacks_the_contents_is_a_duplicate_all_the_same(tmp_path: Path) -> None:
    config = config_of("neftune", dataset__path="rows.json")
    for place in ("here", "copy"):
        write_run(tmp_path / place, config, name="run")
    files = {"dataset.path": "aa" * 32, "noise.own.target": "bb"}  # a section that is not there is no place
    (tmp_path / "here" / "run" / "provenance.json").write_text(json.dumps({"files": files}))
    runs = load_runs([tmp_path / "here", tmp_path / "copy"])
    assert len(runs.runs) == 1
    assert runs.excluded["status"].tolist() == ["duplicate"]
    (tmp_path / "here" / "run" / "provenance.json").write_text("[]")
    assert load_runs(tmp_path / "here", include=("unreadable",)).runs["run_id"].tolist() == ["run"]


def test_of_runs_with_the_same_content_the_newest_stays(tmp_path: Path) -> None:
    import os

    old = write_run(tmp_path, config_of("neftune"), {"eval/loss": 1.0}, name="first")
    new = write_run(tmp_path, config_of("neftune", output_dir="elsewhere"), {"eval/loss": 2.0}, name="again")
    write_run(tmp_path, config_of("neftune", train__lr=0.1), name="other-rate")
    os.utime(old / "done", (1000, 1000))
    os.utime(new / "done", (2000, 2000))
    runs = load_runs(tmp_path)
    assert runs.runs["run_id"].tolist() == ["again", "other-rate"]
    assert runs.excluded[["run_id", "status"]].values.tolist() == [["first", "duplicate"]]
    assert "same settings and seed as again" in runs.excluded["reason"].iloc[0]
    assert "other results" in runs.excluded["reason"].iloc[0]


def test_a_locked_folder_is_running_and_asking_takes_no_lock(tmp_path: Path) -> None:
    folder = write_run(tmp_path, config_of("none"), status="incomplete")
    with RunFolder(folder).locked():
        if not Path("/proc/locks").exists():
            pytest.skip("this system does not list its locks")
        assert load_runs(tmp_path).excluded["status"].tolist() == ["running"]
    assert load_runs(tmp_path).excluded["status"].tolist() == ["incomplete"]


def test_a_row_torn_by_a_crash_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path, config_of("none"), history=[{"step": 1, "a": 1}, {"step": 2, "a": 2}])
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 3, "tr')
    assert load_runs(tmp_path).history["step"].tolist() == [1, 2]


def test_one_run_folder_is_a_source(tmp_path: Path) -> None:
    folder = write_run(tmp_path, config_of("none"))
    assert load_runs(folder).runs["run_id"].tolist() == [folder.name]


def everything(source: Path) -> list[pd.DataFrame]:
    runs = load_runs(source)
    return [runs.runs, runs.history, runs.generations, runs.preferences]


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.yaml", "a: [1", r"config\.yaml: not valid YAML"),
        ("config.yaml", "- 1", r"config\.yaml: expected a mapping of settings, found list"),
        ("config.yaml", DEEP, r"config\.yaml: too large or too deeply nested"),
        ("config.yaml", "a: \x00", r"config\.yaml: not valid YAML"),
        ("summary.json", '{"final": 3}', r"summary\.json: key final: .* found '3'"),
        ("summary.json", '{"final": {"judge/win_rate": "x"}}', r"summary: key final: judge/win_rate: .* found 'x'"),
        ("summary.json", "{", r"summary\.json: not valid JSON at line 1"),
        ("summary.json", "null", r"summary\.json: expected a mapping, found NoneType"),
        ("summary.json", DEEP, r"summary\.json: not valid JSON: 100,000 characters nested too deeply"),
        ("done", "maybe", r"done: expected finished or diverged, found 'maybe'"),
        ("stages.json", "[1]", r"stages\.json: expected a mapping, found list"),
        ("stages.json", '{"train": 3}', r"stages\.json: key train: expected a mapping with seconds"),
        ("annotations.json", "{}", r"annotations\.json: expected a list of rows, found dict"),
        ("annotations.json", "[null]", r"annotations\.json: row 1: key 'instruction' is missing"),
        ("annotations.json", '[{"preference": 1}]', r"annotations\.json: row 1: key 'instruction' is missing"),
        ("annotations.json", '[{"instruction": 1, "output_1": "", "output_2": ""}]', r"row 1: key 'instruction': exp"),
        ("model_outputs.json", DEEP, r"model_outputs\.json: not valid JSON"),
        ("metrics.jsonl", '{]\n{"step": 1}\n', r"metrics\.jsonl: row 1 is not valid JSON"),
        ("metrics.jsonl", '[1]\n{"step": 1}\n', r"metrics\.jsonl: row 1: expected a mapping, found list"),
        ("metrics.jsonl", '{"a": 1}\n', r"metrics\.jsonl: row 1: key 'step' is missing"),
        ("metrics.jsonl", '{"step": 1, "a": "x"}\n', r"metrics\.jsonl: row 1: key 'a': expected a number"),
    ],
)
def test_a_damaged_run_is_unreadable_and_the_others_are_read(
    tmp_path: Path, file: str, content: str, message: str
) -> None:
    write_run(tmp_path, config_of("none", seed=1))
    folder = write_run(tmp_path, config_of("none"))
    (folder / file).write_text(content, encoding="utf-8")
    runs = load_runs(tmp_path).readable()
    assert runs.runs["seed"].tolist() == [1]
    (damaged,) = runs.left_out
    assert damaged.status == "unreadable"
    assert re.search(message, damaged.reason), damaged.reason
    assert "\n" not in damaged.reason
    assert len(runs.preferences) == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alpha", "abc"), ("alpha", [1]), ("seed", None), ("seed", 1.5), ("noise", "x"), ("noise", {"name": [1]}),
        ("tracking", [1]), ("harness", "x"), ("stages", 3), ("train", 7),
    ],
)  # fmt: skip
def test_settings_of_another_kind_make_a_run_unreadable(tmp_path: Path, key: str, value: object) -> None:
    write_run(tmp_path, config_of("none", seed=1))
    folder = write_run(tmp_path, config_of("none"))
    (folder / "config.yaml").write_text(yaml.safe_dump({**config_of("none"), key: value}), encoding="utf-8")
    runs = load_runs(tmp_path)
    assert runs.runs["seed"].tolist() == [1]
    assert [run.status for run in runs.left_out] in (["unreadable"], ["foreign"])


@pytest.mark.parametrize("file", ["config.yaml", "summary.json", "annotations.json", "metrics.jsonl", "stages.json"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(tmp_path: Path, file: str) -> None:
    write_run(tmp_path, config_of("none", seed=1))
    folder = write_run(tmp_path, config_of("none"))
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert load_runs(tmp_path).readable().runs["seed"].tolist() == [1]


def test_a_table_is_made_of_the_runs_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for noise in ("none", "neftune"):
        for seed in range(2):
            write_run(tmp_path, config_of(noise, 5, seed))
    (tmp_path / "tiny-neftune-a5-s1" / "annotations.json").write_text("[3]", encoding="utf-8")
    assert main(["table", "ablation", str(tmp_path), "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["noise"], row["runs"]) for row in rows] == [("none", "2"), ("neftune", "1")]
    assert main(["table", "ablation", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "left out: 1 unreadable; `python -m analysis status` says why" in shown
    assert "tiny-neftune-a5-s1/annotations.json: row 1: key 'instruction' is missing" in shown


def test_a_history_is_read_row_by_row(tmp_path: Path) -> None:
    """Columns that begin later, nulls, and what a crash left at the end."""
    history = [{"step": 1, "a": 1.0}, {"step": 2, "b": 2}, {"step": 3, "a": None, "b": 3.5}]
    folder = write_run(tmp_path, config_of("none"), history=history)
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('\x00\x00\n{"step": 4, "a"')
    frame = load_runs(tmp_path).history
    assert frame["step"].tolist() == [1, 2, 3]
    assert frame["step"].dtype == np.int64
    assert np.array_equal(frame["a"], [1, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(frame["b"], [np.nan, 2, 3.5], equal_nan=True)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such folder"),
        ("a/b/c", "no such folder"),
        ("empty", "no such folder"),
        (".", "there is no run in it"),
        ("a-file.txt", "there is no run in it"),
    ],
)
def test_a_source_without_runs_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "a-file.txt").touch()
    with pytest.raises(ValueError, match=message):
        load_runs(source)


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="include='done'"):
        load_runs(tmp_path, include=("done",))


def test_whole_numbers_of_a_config_are_int() -> None:
    flat = flatten({"train": {"lr": 5e-5, "epochs": 3.0}, "on": True, "names": ["a"]})
    assert flat == {"train.lr": 5e-5, "train.epochs": 3, "on": True, "names": ["a"]}
    assert type(flat["train.epochs"]) is int
    assert type(flat["on"]) is bool


def test_summary_without_numbers_is_nan(tmp_path: Path) -> None:
    folder = write_run(tmp_path, config_of("none"))
    summary = json.loads((folder / "summary.json").read_text())
    summary["final"]["eval/loss"] = None
    (folder / "summary.json").write_text(json.dumps(summary))
    assert load_runs(tmp_path).runs["eval/loss"].isna().all()


def test_what_decides_no_result_splits_no_table() -> None:
    """Analysis and the run's identity read one list; the judge's name stays, it is a table's label."""
    first = content_settings(config_of("none", train__log_every=1, judge__concurrency=1))
    assert first == content_settings(config_of("none", train__log_every=50, judge__concurrency=8))
    assert first != content_settings(config_of("none", judge__name="other"))
    assert "judge.name" in first


def ids(*sources: Path, **options: object) -> list[str]:
    return load_runs(list(sources), **options).runs["run_id"].tolist()


def test_sweeps_side_by_side_links_and_several_folders_are_sources(tmp_path: Path) -> None:
    write_run(tmp_path / "studies" / "a", config_of("none"))
    other = write_run(tmp_path / "studies" / "b", config_of("neftune"))
    (tmp_path / "studies" / "b" / "newest").symlink_to(other, target_is_directory=True)
    (tmp_path / "studies" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "b").symlink_to(tmp_path / "studies" / "b", target_is_directory=True)
    assert ids(tmp_path / "studies") == ["tiny-neftune-a5-s0", "tiny-none-s0"]
    assert ids(tmp_path / "links") == ["tiny-neftune-a5-s0"]
    assert ids(tmp_path / "studies" / "a", tmp_path / "studies" / "b") == ["tiny-neftune-a5-s0", "tiny-none-s0"]


def test_what_another_program_calls_config_yaml_is_no_run(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", config_of("none"))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("defaults: [a]\n")
    (tmp_path / "runs" / "wandb" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "wandb" / "x" / "config.yaml").write_text("wandb_version: 1\n")
    runs = load_runs(tmp_path)
    assert (len(runs.runs), len(runs.excluded)) == (1, 0)


def test_a_failed_attempt_at_what_another_folder_has_finished_counts_no_more(tmp_path: Path) -> None:
    write_run(tmp_path / "a", config_of("none"), status="failed")
    write_run(tmp_path / "b", config_of("none"))
    runs = load_runs([tmp_path / "a", tmp_path / "b"])
    assert runs.excluded["status"].tolist() == ["duplicate"]
    assert runs.excluded["reason"].iloc[0].startswith("failed attempt at tiny-none-s0")
    assert runs.without_result == []


def test_runs_are_chosen_by_group_and_by_settings(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, config_of("none", seed=seed))
        write_run(tmp_path, config_of("neftune", 5.0, seed=seed, tracking__group="another", train__lr=1e-05))
    assert ids(tmp_path, group="another") == ["tiny-neftune-a5-s0", "tiny-neftune-a5-s1"]
    assert ids(tmp_path, where={"noise": "none", "seed": 1}) == ["tiny-none-s1"]
    assert ids(tmp_path, where={"alpha": "5", "seed": ["0", "7"]}) == ["tiny-neftune-a5-s0"]
    assert ids(tmp_path, where={"train.lr": "1e-5", "noise.name": "neftune", "seed": 0}) == ["tiny-neftune-a5-s0"]
    assert ids(tmp_path, where={"eval_set.limit": "null", "noise": "none", "seed": 0}) == ["tiny-none-s0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "x"}, "group=x: no run of it in .*; there are sweep"),
        ({"where": {"noise": "symnois"}}, "where noise=symnois: no run has it; there are none"),
        ({"where": {"lr": 1}}, "where lr: not a setting of these runs; name a key of config.yaml"),
        ({"filters": {"state": "x"}}, "filters: only for a W&B project"),
    ],
)
def test_a_choice_that_leaves_nothing_says_what_there_is(tmp_path: Path, options: dict, message: str) -> None:
    write_run(tmp_path, config_of("none"))
    with pytest.raises(ValueError, match=message):
        load_runs(tmp_path, **options)


def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path, config_of("none"))
    folder.chmod(0o500)
    assert len(load_runs(tmp_path).preferences) == 4
    folder.chmod(0o700)


def test_a_run_whose_settings_are_not_ours_is_named_and_a_strangers_config_is_none(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"))
    config = config_of("neftune", 5)
    del config["noise"]
    write_run(tmp_path, {**config, "noise": {"name": "neftune"}}, name="old")
    (tmp_path / "old" / "config.yaml").write_text("model: {name: tiny}\n", encoding="utf-8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("a: 1\n", encoding="utf-8")
    runs = load_runs(tmp_path)
    assert runs.runs["run_id"].tolist() == ["tiny-none-s0"]
    assert runs.excluded[["run_id", "status"]].to_numpy().tolist() == [["old", "foreign"]]


@pytest.mark.skipif(not Path("/proc/locks").is_file(), reason="locks are looked up in Linux's /proc")
def test_a_run_that_another_machine_holds_is_running(tmp_path: Path) -> None:
    """NFS shows another node's lock as a record lock, which a process of this machine can hold as well."""
    folder = write_run(tmp_path, config_of("none"), status="incomplete")
    assert read_records(tmp_path)[0].status == "incomplete"
    code = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'w')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert read_records(tmp_path)[0].status == "running"
        holder.communicate("")
    assert read_records(tmp_path)[0].status == "incomplete"


def test_a_diverged_training_counts_under_every_judge_of_its_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One folder, which names the judge that came first; nobody was asked, so neither table may pass it over."""
    write_run(tmp_path, config_of("neftune"), status="diverged")
    for judge in ("reference", "strict"):
        for noise, seed in (("none", 0), ("none", 1), ("neftune", 1)):
            write_run(tmp_path, config_of(noise, seed=seed, judge__name=judge), name=f"{noise}-{judge}-s{seed}")
    assert main(["table", "ablation", str(tmp_path), "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    counted = {(row["table"], row["noise"]): row["runs"] for row in rows}
    assert sorted(counted.values()) == ["1 (1 diverged)", "1 (1 diverged)", "2", "2"], rows
    assert len({table for table, _ in counted}) == 2
