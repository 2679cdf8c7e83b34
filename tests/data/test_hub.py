"""Hub data: one pinned commit, fetched once and said, found without a network afterwards, never fetched offline."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import environment
from support.hub_server import HubServer

from harness.config.paths import conf_dir

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_SETS = ["alpaca", "dolly", "evol_instruct", "openplatypus", "sharegpt"]


def parquet_bytes(rows: int) -> bytes:
    from datasets import Dataset

    buffer = io.BytesIO()
    Dataset.from_list([{"instruction": f"Say {n}", "output": str(n)} for n in range(rows)]).to_parquet(buffer)
    return buffer.getvalue()


def load(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    code = (
        "from harness.config import DatasetConfig; from harness.data import load_dataset\n"
        f"config = DatasetConfig(name='mine', hub_id='me/data', revision='{COMMIT}', hub_files=['d/a.parquet'])\n"
        "try: print(load_dataset(config).describe())\n"
        "except ValueError as error: print('refused:', error)"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(HF_HOME=str(home), **variables),
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_file_is_fetched_once_said_and_then_found_offline(tmp_path):
    with HubServer("me/data", COMMIT, {"d/a.parquet": parquet_bytes(300)}) as hub:
        refused = load(tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
        assert hub.requests == []
        first = load(tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
        assert f"GET /datasets/me/data/resolve/{COMMIT}/d/a.parquet" in hub.requests
        asked = len(hub.requests)
        second = load(tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
        assert len(hub.requests) == asked
    missing = f"dataset=mine: me/data@{COMMIT[:10]} d/a.parquet is not in the cache {tmp_path / 'hub'}"
    assert refused.stdout.startswith(f"refused: {missing} and offline is set")
    assert f"hf download --repo-type dataset --revision {COMMIT} me/data d/a.parquet" in refused.stdout
    assert "or give the file as dataset.path=FILE" in refused.stdout
    assert f"{missing}: downloading it from {hub.url}" in first.stderr
    assert "downloading" not in second.stderr
    third = load(tmp_path, HF_HUB_OFFLINE="1")
    assert first.stdout == second.stdout == third.stdout
    assert re.search(r"a\.parquet: alpaca, 300 rows; 300 left$", first.stdout.strip())


def test_what_cannot_be_fetched_says_why_and_what_to_do(tmp_path):
    with HubServer("me/data", COMMIT, {}) as hub:
        result = load(tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
    assert result.stdout.startswith("refused: dataset=mine: me/data@0123456789 d/a.parquet is not in the cache")
    assert "cannot be fetched: " in result.stdout
    assert "where there is a network: hf download" in result.stdout


def test_every_data_set_is_pinned_to_a_commit_and_a_file(compose):
    assert sorted(path.stem for path in (conf_dir() / "dataset").glob("*.yaml")) == sorted(
        [*HUB_SETS, "builtin", "builtin_text", "local"]
    )
    for name in HUB_SETS:
        dataset = compose(f"dataset={name}").dataset
        assert dataset.hub_id.count("/") == 1
        assert re.fullmatch("[0-9a-f]{40}", dataset.revision)
        assert dataset.hub_files
    assert compose("dataset=sharegpt").dataset.prompt == "vicuna_v1.1"
    assert compose("dataset=sharegpt").dataset.turns == "first"


def test_a_local_path_replaces_the_hub_by_one_override(compose):
    dataset = compose("dataset=alpaca", "dataset.path=mine.json").dataset
    assert (dataset.path, dataset.hub_id, dataset.revision, dataset.hub_files) == ("mine.json", None, None, ())


def test_an_unpinned_hub_set_is_refused(compose):
    for keys in (["dataset.revision=main"], ["dataset.revision=null"], ["dataset.hub_files=[]"]):
        with pytest.raises(ValueError, match=r"dataset\.(revision|hub_id)"):
            compose("dataset=alpaca", *keys)
