"""What a path holds decides, every byte of it; what describes it does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.judge_models import tiny
from transformers import LlamaForSequenceClassification

from harness.config import Config
from harness.record import content
from harness.record.cache import _say_once, one_maker, unfinished
from harness.record.content import path_fingerprint
from harness.record.identity import file_fingerprints, run_id, stage_fingerprint
from harness.system.locks import locked

Compose = Callable[..., Config]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(tmp_path / "cache"))
    content._content.cache_clear()
    return tmp_path / "cache"


def test_an_edit_in_the_middle_of_a_large_file_is_another_content(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"")
    os.truncate(path, 200 << 20)
    before, times = path_fingerprint(str(path)), path.stat()
    with open(path, "r+b") as file:
        file.seek(100 << 20)
        file.write(b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # a copy that keeps times
    assert path_fingerprint(str(path)) != before


def test_a_large_file_is_read_once_by_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"w" * (65 << 20))
    first = path_fingerprint(str(path))
    content._content.cache_clear()  # as in another process
    monkeypatch.setattr(content, "file_hash", lambda _: pytest.fail("read again"))
    assert path_fingerprint(str(path)) == first


def test_a_folders_documents_decide_nothing_and_its_weights_everything(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / ".cache").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "vocab.txt", "README.md", "LICENSE", ".cache/meta"):
        (folder / name).write_text("1")
    before = path_fingerprint(str(folder))
    for name in ("README.md", "LICENSE", ".cache/meta", "USE_POLICY.md", "loss.png"):
        (folder / name).write_text("2")
        assert path_fingerprint(str(folder)) == before
    for name in ("model.safetensors", "config.json", "vocab.txt", "added_tokens.json"):
        (folder / name).write_text("2")
        assert path_fingerprint(str(folder)) != before
        before = path_fingerprint(str(folder))


def test_two_models_that_differ_in_one_layer_are_two_runs(tmp_path: Path, compose: Compose) -> None:
    ids = set()
    for name, byte in (("one", b"1"), ("two", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"0" * (40 << 20) + byte + b"0" * (40 << 20))
        ids.add(run_id(compose("model=local", f"model.path={tmp_path / name}")))
    assert len(ids) == 2


def test_new_weights_of_a_judge_are_another_judging_and_the_same_run(tmp_path: Path, compose: Compose) -> None:
    folder = tiny(tmp_path / "rm", LlamaForSequenceClassification, num_labels=1)
    config = compose("judge=reward", f"judge.model={folder}")
    before, name = stage_fingerprint(config, "judge"), run_id(config)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert stage_fingerprint(config, "judge") != before
    assert run_id(config) == name
    assert "judge.model" in file_fingerprints(config)


def test_a_changed_annotator_or_judge_of_ones_own_is_another_judging(
    tmp_path: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = tmp_path / "annotator" / "configs.yaml"
    configs.parent.mkdir()
    (tmp_path / "my_judge.py").write_text("class Judge: ...\nclass Other: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    package = compose("judge=alpaca_eval", f"judge.annotators_config={configs.parent}")
    own, other = (compose("judge.kind=python", f"judge.target=my_judge:{name}") for name in ("Judge", "Other"))
    assert stage_fingerprint(own, "judge") != stage_fingerprint(other, "judge")
    for config, file in ((package, configs), (own, tmp_path / "my_judge.py")):
        seen = []
        for text in ("a = 1", "a = 2"):
            file.write_text(text)
            seen.append(stage_fingerprint(config, "judge"))
        assert len(set(seen)) == 2


def test_parts_of_killed_makers_go_and_those_at_work_stay(own_cache: Path) -> None:
    folder = own_cache / "tokens"
    folder.mkdir(parents=True)
    stale, ours, busy = folder / "gone.17.tmp", folder / "mine.18.tmp", folder / "busy.19.tmp"
    for path in (stale, ours, busy):
        path.write_text("half")
    (folder / ".a.b-1f.20.tmp").mkdir()
    with locked(folder / "busy.lock"), one_maker(folder / "mine.safetensors"):
        assert [path.name for path in folder.glob("*.tmp")] == ["busy.19.tmp"]
        assert not (folder / ".a.b-1f.20.tmp").exists()
        assert unfinished(folder / "mine.safetensors").name == f"mine.{os.getpid()}.tmp"


def test_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compose: Compose
) -> None:
    from harness.data.documents import load_documents

    _say_once.cache_clear()
    load_documents.cache_clear()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(tmp_path / "file" / "cache"))
    config = compose("dataset.size=8", "dataset.heldout=2")
    data = load_documents(config.dataset, config.model)
    (tmp_path / "large").write_bytes(b"1" * (2 << 20))
    assert len(path_fingerprint(str(tmp_path / "large"))) == 64
    assert (len(data.train), data.origin) == (8, "tokens: made, and not kept")
    said = capsys.readouterr().err
    assert said.count("cannot be written (Not a directory); going on without it") == said.count("\n") == 1
    load_documents.cache_clear()


def test_flipped_labels_in_the_cache_are_made_again(compose: Compose) -> None:
    from harness.data.documents import load_documents

    load_documents.cache_clear()
    config = compose("dataset.size=8", "dataset.heldout=2")
    made = load_documents(config.dataset, config.model)
    start = 8 + int.from_bytes(made.entry.read_bytes()[:8], "little")
    damaged = bytearray(made.entry.read_bytes())
    damaged[start + 40] ^= 1
    made.entry.write_bytes(damaged)
    load_documents.cache_clear()
    again = load_documents(config.dataset, config.model)
    assert "unreadable: its checksum differs" in again.origin
    for one, two in zip(made.train, again.train, strict=True):
        assert (one.input_ids == two.input_ids).all()
        assert (one.labels == two.labels).all()
    load_documents.cache_clear()
