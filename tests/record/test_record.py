"""The run folder: whole files or none, honest completion, one worker at a time."""

from __future__ import annotations

import json

import pytest

from harness.record import RunFolder, commit_folder, read_json, write_json


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, [1])
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(target, [float("nan")])
    assert read_json(target) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_broken_json_names_the_place(tmp_path):
    (tmp_path / "b.json").write_text('{"a": 1,\n}')
    with pytest.raises(ValueError, match=r"b\.json: not valid JSON at line 2, column 1"):
        read_json(tmp_path / "b.json")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with commit_folder(tmp_path / "model") as inside:
        (inside / "weights").write_text("new")
    with pytest.raises(RuntimeError), commit_folder(tmp_path / "model") as inside:  # noqa: PT012
        (inside / "weights").write_text("half")
        raise RuntimeError
    assert (tmp_path / "model" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_stage_is_complete_only_for_its_settings(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.is_complete("judge", "abc")
    folder.complete("judge", "abc", 1.5, "finished", {"judge/win_rate": 50.0})
    assert folder.is_complete("judge", "abc")
    assert not folder.is_complete("judge", "other")


def test_metrics_survive_a_torn_line_and_nan(tmp_path):
    folder = RunFolder(tmp_path)
    for step, loss in ((1, 2.0), (2, float("nan")), (3, 1.0)):
        folder.append_metrics({"step": step, "train/loss": loss})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "tr')
    assert [row["train/loss"] for row in folder.metrics()] == [2.0, None, 1.0]
    folder.truncate_metrics(2)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        1,
        2,
    ]


def test_two_workers_on_one_run(tmp_path):
    with (
        RunFolder(tmp_path).locked(),
        pytest.raises(BlockingIOError, match="another process"),
        RunFolder(tmp_path).locked(),
    ):
        pass


def test_what_a_killed_process_left_half_written_goes_with_the_next_start(tmp_path):
    run = RunFolder(tmp_path)
    (run / ".stages.json.17.tmp").write_text("{")
    (run / ".model.17.tmp").mkdir()
    (run / ".model.17.tmp" / "part").write_text("")
    with run.locked():
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "bad", [b"\0\0\0\0", b"null", b"[1]", b'{"step": "2"}', b"{", b"\xff\xfe", b"[" * 200_000], ids=repr
)
def test_a_bad_line_is_named_in_the_middle_and_left_out_at_the_end(bad, tmp_path):
    folder = RunFolder(tmp_path)
    first, second = b'{"step": 1}\n', b'{"step": 2}\n'
    (tmp_path / "metrics.jsonl").write_bytes(first + bad + b"\n" + second)
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 is not a logged step"):
        folder.metrics()
    (tmp_path / "metrics.jsonl").write_bytes(first + second + bad + b"\n" + bad)
    assert folder.metrics() == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("bad", [b"", b"\0\0", b"\xff", b'{"train": '], ids=repr)
def test_a_bad_list_of_stages_is_named(bad, tmp_path):
    (tmp_path / "stages.json").write_bytes(bad)
    with pytest.raises(ValueError, match=r"stages\.json: not valid JSON"):
        RunFolder(tmp_path).stages()
