"""Runs that were read before: never an old result, whatever happened to the file or to the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.run_folders import config_of, rows_of, write_run

from analysis import load_runs
from analysis.sources import cache
from analysis.sources.cache import remember_text, remembered, remembered_text
from analysis.sources.preferences import numbers

Reader = Callable[[Path], str]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that also keeps files which were written just now."""
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_SETTLED_NS", 0)
    cache._folder_of.cache_clear()
    remembered_text.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def reads() -> list[Path]:
    """Every reading of a file itself by `read`."""
    return []


@pytest.fixture
def read(reads: list[Path]) -> Reader:
    def read_file(path: Path) -> str:
        reads.append(path)
        return path.read_text()

    return lambda path: remembered(path, "text", read_file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("first")
    _wait_for_a_tick()
    return path


def _wait_for_a_tick() -> None:
    """Longer than the clock of a file system stands still."""
    time.sleep(0.02)


def test_a_file_is_read_once(file: Path, read: Reader, reads: list[Path]) -> None:
    assert [read(file) for _ in range(3)] == ["first"] * 3
    assert len(reads) == 1


def _grow(path: Path) -> None:
    path.write_text("second, longer")


def _edit(path: Path) -> None:
    path.write_text("other")


def _edit_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    path.write_text("other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_with_the_same_times(path: Path) -> None:
    before, new = path.stat(), path.with_name("new")
    new.write_text("other")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(new, path)


@pytest.mark.parametrize("change", [_grow, _edit, _edit_and_set_the_time_back, _replace_with_the_same_times])
def test_a_changed_file_is_read_again(
    file: Path, read: Reader, reads: list[Path], change: Callable[[Path], None]
) -> None:
    assert read(file) == "first"
    change(file)
    _wait_for_a_tick()
    assert [read(file), read(file)] == [file.read_text()] * 2
    assert len(reads) == 2


def test_another_file_at_the_end_of_a_link_is_read_again(file: Path, read: Reader) -> None:
    other, link = file.with_name("target"), file.with_name("link")
    other.write_text("other")
    link.symlink_to(file)
    assert read(link) == "first"
    link.unlink()
    link.symlink_to(other)
    assert read(link) == "other"


def test_a_file_that_was_written_just_now_is_not_kept(
    file: Path, read: Reader, reads: list[Path], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a tick of its clock it could change again without a trace."""
    monkeypatch.setattr(cache, "_SETTLED_NS", 3_000_000_000)
    assert [read(file), read(file)] == ["first", "first"]
    assert len(reads) == 2
    assert not kept.exists()


def test_a_file_that_changes_while_it_is_read_is_not_kept(file: Path) -> None:
    def read_slowly(path: Path) -> str:
        text = path.read_text()
        path.write_text("later")
        return text

    assert remembered(file, "text", read_slowly) == "first"
    assert remembered(file, "text", Path.read_text) == "later"


TORN = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "zeros in it": lambda text: text[:10] + "\0" * 8 + text[18:],
    "not UTF-8": lambda _: b"\xff\xfe",
    "a list": lambda _: "[]",
    "a number": lambda _: "3",
    "no value": lambda text: json.dumps({"file": json.loads(text)["file"]}),
}


@pytest.mark.parametrize("harm", TORN.values(), ids=list(TORN))
def test_a_torn_entry_is_made_again(
    file: Path, read: Reader, reads: list[Path], kept: Path, harm: Callable[[str], str | bytes]
) -> None:
    read(file)
    (entry,) = kept.rglob("*.json")
    torn = harm(entry.read_text())
    entry.write_bytes(torn if isinstance(torn, bytes) else torn.encode())
    assert [read(file), read(file)] == ["first", "first"]
    assert len(reads) == 2


def test_another_version_of_the_code_reads_for_itself(
    file: Path, read: Reader, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(file)
    ours = cache._version()
    for version in ("another", ours):
        monkeypatch.setattr(cache, "_version", lambda version=version: version)
        cache._folder_of.cache_clear()
        read(file)
    assert len(reads) == 2  # once for each


def test_the_version_is_that_of_the_code(tmp_path: Path) -> None:
    """One character in a module that reads runs makes another version; so does one in what it reads them with."""
    for changed in ("analysis/sources/history.py", "harness/record/files.py"):
        copy = tmp_path / changed.replace("/", "_")
        _copy_code(copy)
        assert _version_of(copy) == cache._version()
        with open(copy / changed, "a") as file:
            file.write("#")
        assert _version_of(copy) not in ("", cache._version())


def _copy_code(folder: Path) -> None:
    root = Path(cache.__file__).parents[2]
    for path in [*root.glob("analysis/sources/*.py"), *(root / "harness").rglob("*.py"), root / "analysis/__init__.py"]:
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


def _version_of(folder: Path) -> str:
    code = "from analysis.sources.cache import _version; print(_version())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_what_other_versions_kept_goes_after_a_month(file: Path, read: Reader, kept: Path) -> None:
    for name, age in (("recent", 0.0), ("old", 40 * 86400.0)):
        folder = kept / "analysis" / name
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age, time.time() - age))
    read(file)
    assert sorted(path.name for path in (kept / "analysis").iterdir()) == sorted(["recent", cache._version()])


def test_without_a_place_to_write_everything_is_read(
    file: Path, read: Reader, reads: list[Path], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.write_text("a file where the cache would be")
    assert [read(file), read(file)] == ["first", "first"]
    assert len(reads) == 2
    assert capsys.readouterr().err.count("cannot be written") <= 1


@pytest.mark.parametrize("value", [(1, 2), {1: "a"}, {"a": {1, 2}}, object], ids=str)
def test_what_json_would_change_is_not_kept(file: Path, value: object, kept: Path) -> None:
    assert remembered(file, "value", lambda _: value) is value
    assert not kept.exists()


def test_a_value_that_grows_in_json_is_not_kept(file: Path) -> None:
    """Aliases in YAML: thirty lines of them would be billions of entries."""
    value: list[object] = [1]
    for _ in range(64):
        value = [value, value]
    assert remembered(file, "value", lambda _: value) is value


@pytest.mark.parametrize("value", [1, 1.0, True, None, -0.0, 1e300, 2**80, "\ud800", {"a": [{}, [], "é"]}], ids=repr)
def test_what_is_kept_comes_back_as_it_was(file: Path, value: object) -> None:
    found = [remembered(file, "value", lambda _: value) for _ in range(2)]
    assert repr(found) == repr([value, value])


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_text("[")])
def test_a_shared_text_that_is_gone_is_written_again(kept: Path, harm: Callable[[Path], object]) -> None:
    name = remember_text("text")
    assert remembered_text(name) == "text"
    (place,) = kept.rglob("*.txt")
    harm(place)
    remembered_text.cache_clear()
    with pytest.raises(KeyError):
        remembered_text(name)
    place.unlink(missing_ok=True)
    assert remembered_text(remember_text("text")) == "text"


def frames_of(source: Path) -> list[pd.DataFrame]:
    runs = load_runs(source)
    return [runs.runs, runs.configs, runs.preferences, runs.by_item("model_wins"), runs.excluded]


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_runs_from_the_cache_are_those_of_the_folder(tmp_path: Path, kept: Path) -> None:
    for seed in range(3):
        final = {"eval/loss": 0.5 + seed, "train/seconds": 3, "noise/ratio": None}
        write_run(tmp_path / "runs", config_of("neftune", seed=seed), final, [1.0, None, 0, 1.25 + seed / 8])
    write_run(tmp_path / "runs", config_of("none"), status="failed")
    write_run(tmp_path / "runs", config_of("gaussian"), status="incomplete")
    files = _times(tmp_path / "runs")
    found = [frames_of(tmp_path / "runs") for _ in range(2)]
    assert len(list(kept.rglob("*.json"))) == 5 + 3 * 2 + 5  # settings; numbers and verdicts; flaws of stages
    for first, again in zip(*found, strict=True):
        pd.testing.assert_frame_equal(first, again)
    assert _times(tmp_path / "runs") == files  # nothing is written there


def test_an_edit_of_the_same_size_shows_in_the_frames(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", config_of("neftune", seed=1), {"eval/loss": 0.25}, [1.0, 2.0])
    before = load_runs(tmp_path / "runs")
    assert before.preferences["model_wins"].tolist() == [0.0, 1.0]
    for name, old, new in (
        ("summary.json", "0.25", "0.75"),
        ("config.yaml", "seed: 1", "seed: 2"),
        ("annotations.json", '"preference": 1.0', '"preference": 2.0'),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
    after = load_runs(tmp_path / "runs")
    assert after.runs[["seed", "eval/loss"]].values.tolist() == [[2, 0.75]]
    assert after.preferences["model_wins"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "annotations.json", "stages.json"])
def test_a_file_that_is_damaged_later_is_seen(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "runs", config_of("neftune"))
    assert len(load_runs(tmp_path / "runs").readable().records) == 1
    (folder / name).write_text("[" * 10)
    runs = load_runs(tmp_path / "runs").readable()
    assert [run.status for run in runs.left_out] == ["unreadable"]
    assert name in runs.left_out[0].reason


def test_settings_with_a_date_are_read_alike_each_time(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", config_of("neftune"))
    with open(folder / "config.yaml", "a", encoding="utf-8") as file:
        file.write("day: 2026-11-28\nagain: &a [1]\nmore: *a\n")
    found = [load_runs(tmp_path / "runs").records[0].config for _ in range(2)]
    assert repr(found[0]) == repr(found[1])
    assert str(found[0]["day"]) == "2026-11-28"


def test_several_readers_at_once_find_the_same(tmp_path: Path) -> None:
    for seed in range(12):
        write_run(tmp_path / "runs", config_of("neftune", seed=seed), preferences=[1.0, 1.0 + seed / 16])
    code = (
        "import sys; from analysis.sources import cache; cache._SETTLED_NS = 0\n"
        "from analysis.sources.runs import load_runs\n"
        "for _ in range(5): found = {k: v.model_wins.tolist() for k, v in load_runs(sys.argv[1]).verdicts.items()}\n"
        "print(found)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "runs")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) for _ in range(3)]
    said = {reader.communicate()[0] for reader in readers}
    assert said == {f"{ {k: v.model_wins.tolist() for k, v in load_runs(tmp_path / 'runs').verdicts.items()} }\n"}
    assert all(reader.returncode == 0 for reader in readers)


def test_a_list_of_runs_needs_no_frames(tmp_path: Path) -> None:
    """The second time, with everything in the cache, neither YAML nor the schema is imported either."""
    write_run(tmp_path / "runs", config_of("neftune"))
    load_runs(tmp_path / "runs")
    code = (
        "import sys; from analysis.sources import cache; cache._SETTLED_NS = 0\n"
        "from analysis.__main__ import main; main(['status', sys.argv[1]])\n"
        "heavy = {'pandas', 'numpy', 'yaml', 'pydantic', 'filelock', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 finished" in done.stdout


def test_numbers_may_be_of_any_numeric_kind() -> None:
    found = numbers([1, 2.5, True, None, np.float64(3)])
    assert np.array_equal(found, [1.0, 2.5, 1.0, np.nan, 3.0], equal_nan=True)
    with pytest.raises(ValueError, match="expected a number, found '5'"):
        numbers([1, "5"])


def test_columns_are_those_of_the_rows(tmp_path: Path) -> None:
    """Wide frames against their definition: instructions that repeat, differ between runs, or have no category."""
    runs = tmp_path / "runs"
    one, two, three = (write_run(runs, config_of("neftune", seed=seed), preferences=[1.5] * 4) for seed in range(3))
    for folder, texts, datasets in (
        (one, ["b", "a", "a", "c"], [None, "x", "y", None]),
        (two, ["a", "d", "a", "a"], ["x", "z", None, 3]),
        (three, [], []),
    ):
        rows = [
            row | {"instruction": text, "dataset": dataset, "preference": preference, "annotator": None}
            for row, text, dataset, preference in zip(
                rows_of([1.0] * len(texts), [3, 4, 5, 6][: len(texts)]),
                texts,
                datasets,
                [1.0, None, 0, 3.0],
                strict=False,
            )
        ]
        (folder / "annotations.json").write_text(json.dumps(rows))
    found = load_runs(runs)
    frame = found.preferences
    occurrence = frame.groupby(["run_id", "instruction"]).cumcount()
    keyed = frame.assign(occurrence=occurrence).set_index(["instruction", "occurrence", "run_id"])
    for column in ("model_wins", "preference", "length", "correct", "partial_credit"):
        pd.testing.assert_frame_equal(found.by_item(column), keyed[column].unstack("run_id").astype(float))
    named = keyed["dataset"].groupby(level=["instruction", "occurrence"]).first().fillna("")
    assert found.clusters.to_dict() == named.to_dict()
    assert found.clusters.to_dict()["a", 2] == "3"
