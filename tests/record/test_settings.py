"""A run's folder can come from anybody: its settings are read by one reader, and every command says one line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.record import read_mapping, read_settings

DEEP = 50_000
BAD = {
    "deep": ("[" * DEEP, "too large or too deeply nested"),
    "deep and closed": ("[" * DEEP + "]" * DEEP, "too large or too deeply nested"),
    "large": ("a: " + "x" * 3_000_000, "too large or too deeply nested"),
    "torn": ("a: [1", "not valid YAML"),
    "a tag": ("a: !!python/object/apply:os.system [true]", "not valid YAML"),
    "a mapping as a key": ("{a: 1}: 2", "not valid YAML"),
    "no date": ("a: 2026-13-45", "cannot be read as YAML"),
    "null": ("null", "expected a mapping of settings, found NoneType"),
    "a list": ("- 1", "expected a mapping of settings, found list"),
    "empty": ("", "expected a mapping of settings, found NoneType"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_are_none_are_named(name: str, tmp_path: Path) -> None:
    text, message = BAD[name]
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_settings(tmp_path / "config.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'config.yaml'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"null", "expected a mapping, found NoneType"),
        (b"[1]", "expected a mapping, found list"),
        (b"[" * DEEP, "not valid JSON"),
        (b'{"a": 1' + b"0" * 6000 + b"}", "not valid JSON: Exceeds the limit"),
        (b'{"a": ', "not valid JSON at line 1"),
        (b"\xff", "not UTF-8 at byte 0"),
    ],
    ids=["null", "list", "deep", "a long number", "torn", "binary"],
)
def test_json_that_is_no_mapping_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_mapping(tmp_path / "summary.json")
    assert str(caught.value).startswith(f"{tmp_path / 'summary.json'}: ")


def test_a_pipe_and_a_device_keep_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        for read in (read_settings, read_mapping):
            with pytest.raises(ValueError, match="not a regular file"):
                read(path)


@pytest.mark.parametrize("name", ["deep", "torn", "null"])
def test_export_and_chat_say_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.chat.__main__ import main as chat
    from harness.export.__main__ import main as export

    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for file, content in (("done", "finished\n"), ("summary.json", "{}"), ("config.yaml", BAD[name][0])):
        (run / file).write_text(content, encoding="utf-8")
    for command, *words in ((export, str(tmp_path / "out")), (chat,)):
        monkeypatch.setattr(sys, "argv", ["command", str(run), *words])
        with pytest.raises(SystemExit) as ended:
            command()
        assert ended.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {run / 'config.yaml'}: ")
        assert BAD[name][1] in line
