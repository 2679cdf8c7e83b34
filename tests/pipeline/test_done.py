"""What "done" means: every file is there and whole; provenance keeps every start of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import SMALL
from support.runs import Finished, folder_of, pending_of

from harness.config import Config
from harness.pipeline.runner import execute
from harness.record import read_json
from harness.record.provenance import changes, with_history

Compose = Callable[..., Config]
QUICK = [
    *SMALL,
    "train.max_steps=1",
    "probe.examples=2",
    "probe.overfitting_examples=2",
    "probe.memorisation_examples=2",
]


def test_a_run_that_lacks_a_file_does_that_stage_again(compose: Compose, finished: Finished) -> None:
    config = compose(*QUICK)
    finished(config)
    folder = folder_of(config)
    assert pending_of(config) == []
    for name, stage in (
        ("model/model.safetensors", ["train"]),
        ("model_outputs.json", ["generate"]),
        ("annotations.json", ["judge"]),
        ("probes.json", ["probe"]),
        ("summary.json", []),
    ):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-7])
        assert pending_of(config) == [*stage, "record"], name
        (folder / name).unlink()
        assert pending_of(config) == [*stage, "record"], name
        if name in ("model_outputs.json", "summary.json"):
            execute(config)
            if name == "model_outputs.json":
                assert (folder / name).read_bytes() == whole
        else:
            (folder / name).write_bytes(whole)
        assert pending_of(config) == []


@pytest.mark.parametrize(
    ("name", "stage"), [("model_outputs.json", "generate"), ("annotations.json", "judge"), ("probes.json", "probe")]
)
def test_an_edit_that_keeps_the_size_is_seen(compose: Compose, name: str, stage: str, finished: Finished) -> None:
    config = compose(*QUICK)
    finished(config)
    path, whole = folder_of(config) / name, (folder_of(config) / name).read_bytes()
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(whole.replace(b"e", b"E", 1))
    os.utime(path, ns=times)  # as an archive would put it back
    assert pending_of(config) == [stage, "record"]
    path.write_bytes(whole)
    assert pending_of(config) == []


def test_weights_with_a_flipped_bit_are_not_asked(compose: Compose, finished: Finished) -> None:
    from harness.pipeline.plan import RunFailed

    config = compose(*QUICK, "stages=[train]")
    finished(config)
    weights = folder_of(config) / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunFailed, match=r"model\.safetensors: missing, or not what the stage train wrote"):
        execute(compose(*QUICK, "stages=[generate]"))


def test_a_folder_of_weights_may_be_removed_and_is_made_again_where_it_is_needed(
    compose: Compose, finished: Finished
) -> None:
    import shutil

    config = compose(*QUICK, "stages=[train,generate]")
    finished(config)
    shutil.rmtree(folder_of(config) / "model")
    assert pending_of(config) == []
    assert pending_of(compose(*QUICK, "stages=[train,generate,probe]")) == ["train", "probe", "record"]


def test_a_run_of_an_earlier_version_is_done(compose: Compose, finished: Finished) -> None:
    from harness.record import write_json

    config = compose(*QUICK, "stages=[train,generate]")
    finished(config)
    folder = folder_of(config)
    stages = folder.stages()
    for entry in stages.values():
        del entry["files"]
    write_json(folder / "stages.json", stages)
    assert pending_of(config) == []
    (folder / "model_outputs.json").unlink()
    assert pending_of(config) == ["generate", "record"]


def test_provenance_keeps_every_start_and_tells_what_changed(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: Finished
) -> None:
    config = compose(*QUICK, "stages=[train]")
    finished(config)
    first = read_json(folder_of(config) / "provenance.json")
    assert (first["stages"], first["history"]) == (["train", "record"], [])
    monkeypatch.setattr("harness.pipeline.runner.provenance", lambda _: {**first, "git": {"commit": "f00", "diff": ""}})
    execute(compose(*QUICK, "stages=[train,generate]"))
    second = read_json(folder_of(config) / "provenance.json")
    assert second["stages"] == ["generate", "record"]
    assert [start["git"] for start in second["history"]] == [first["git"]]
    said = capsys.readouterr().err
    assert "changed since its last start: git.commit: " in said
    assert "-> f00" in (folder_of(config) / "log.txt").read_text()


def test_changes_name_what_decides_and_nothing_else() -> None:
    first = {"started_at": "1", "command": ["a"], "versions": {"torch": "2.12"}, "files": {"dataset.path": "a" * 64}}
    second = {"started_at": "2", "command": ["b"], "versions": {"torch": "2.13"}, "files": {"dataset.path": "b" * 64}}
    assert changes(first, second) == [
        "versions.torch: 2.12 -> 2.13",
        "files.dataset.path: aaaaaaaaaaaa... (64 characters) -> bbbbbbbbbbbb... (64 characters)",
    ]
    assert changes(first, first) == []
    assert with_history(with_history(None, first), second)["history"] == [first]


def test_torn_provenance_stops_nothing(compose: Compose, finished: Finished) -> None:
    config = compose(*QUICK, "stages=[train]")
    finished(config)
    path: Path = folder_of(config) / "provenance.json"
    path.write_text('{"git": ')
    execute(compose(*QUICK, "stages=[train,generate]"))
    assert read_json(path)["history"] == []
    assert "the provenance of earlier starts is lost" in (folder_of(config) / "log.txt").read_text()
