"""Tokenised data are made once: for all runs of a sweep, across processes, and never mistaken for other data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.forked import spawn
from support.tokenizers_by_hand import TOKENIZER, byte_tokenizer

from harness.config import CleaningConfig, DatasetConfig
from harness.data import load_dataset
from harness.data.documents import tokenize

ROOT = Path(__file__).parents[2]
ROWS = [{"instruction": f"Say {n}", "output": "yes " * (1 + n % 7)} for n in range(40)]


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A file of 40 rows, and a cache of its own."""
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "data.json"
    path.write_text(json.dumps(ROWS))
    return path


def config(path: Path, clean: dict | None = None, **keys) -> DatasetConfig:
    return DatasetConfig(
        name="local", path=str(path), clean=CleaningConfig(**(clean or {})), **{"heldout": 5, "max_length": 128, **keys}
    )


def entries(path: Path) -> list[Path]:
    return sorted((path.parent / "cache" / "tokens").glob("*.safetensors"))


def plain(documents) -> list[tuple[int, list[int], list[int]]]:
    return [(each.index, each.input_ids.tolist(), each.labels.tolist()) for each in documents]


def test_the_second_time_the_same_documents_come_from_the_cache(data):
    made, found = (tokenize(config(data), TOKENIZER) for _ in range(2))
    assert (made.origin, made.entry) == ("tokens: made", entries(data)[0])
    assert (found.origin, found.entry) == ("tokens: from the cache", made.entry)
    assert found.notes == made.notes
    assert plain(found.train) == plain(made.train)
    assert plain(found.heldout) == plain(made.heldout)
    assert (len(found.train), len(found.heldout), len(entries(data))) == (35, 5, 1)
    for documents, examples in ((found.train, found.train_examples), (found.heldout, found.heldout_examples)):
        texts = [TOKENIZER.decode(each.input_ids, skip_special_tokens=True) for each in documents]
        assert all(example.output in text for example, text in zip(examples, texts, strict=True))
    assert found.train[0].input_ids.dtype == made.train[0].input_ids.dtype


def test_everything_that_changes_a_token_has_an_entry_of_its_own(data):
    settings = [{}, {"max_length": 60}, {"prompt": "vicuna_v1.1"}, {"size": 20}, {"seed": 1}]
    settings += [{"clean": {"overlong": "drop"}}, {"clean": {"long_prompts": "drop"}}]
    for keys in settings:
        tokenize(config(data, **keys), TOKENIZER)
    assert len(entries(data)) == len(settings)
    for tokenizer in (byte_tokenizer(), byte_tokenizer(merges=[("e", "s")]), byte_tokenizer(bos="<s>")):
        tokenize(config(data, max_length=512), tokenizer)
    assert len(entries(data)) == len(settings) + 3
    data.write_text(json.dumps([*ROWS[1:], {**ROWS[0], "output": "no"}]))
    load_dataset.cache_clear()
    tokenize(config(data), TOKENIZER)
    assert len(entries(data)) == len(settings) + 4


def test_what_changes_no_token_shares_the_entry(data):
    other = data.with_name("renamed.json")
    other.write_text(json.dumps(ROWS, indent=2))
    tokenize(config(data), TOKENIZER)
    tokenize(config(other, clean={"roles": "drop"}), TOKENIZER)
    assert len(entries(data)) == 1


def test_a_broken_entry_is_made_again_and_said(data):
    made = tokenize(config(data), TOKENIZER)
    entry = entries(data)[0]
    entry.write_bytes(entry.read_bytes()[:-100])
    again = tokenize(config(data), TOKENIZER)
    assert "(the entry there was unreadable: " in again.origin
    assert plain(again.train) == plain(made.train)
    assert tokenize(config(data), TOKENIZER).origin == "tokens: from the cache"


def _tokenise(rank: int, data: str) -> None:
    found = tokenize(DatasetConfig(name="local", path=data, heldout=5), TOKENIZER)
    Path(data).with_name(f"said-{rank}").write_text(f"{found.origin}\n{sum(map(len, found.train))}")


def test_processes_that_start_together_tokenise_once(data):
    """Three processes, one tokenisation: two of them wait for the first and read what it wrote."""
    spawn(_tokenise, (str(data),), 3)
    outputs = [data.with_name(f"said-{rank}").read_text() for rank in range(3)]
    assert sum(output.startswith("tokens: made") for output in outputs) == 1
    assert sum(output.startswith("tokens: from the cache") for output in outputs) == 2
    assert len({output.splitlines()[1] for output in outputs}) == 1


def test_the_log_counts_what_was_cut_dropped_and_repeated(data):
    long, twin = {"instruction": "x", "output": "word " * 200}, {"instruction": "twin", "output": "t"}
    data.write_text(json.dumps([*ROWS[:6], long, *[twin] * 4]))
    notes = tokenize(config(data), TOKENIZER).notes
    assert "alpaca, 11 rows; 11 left" in notes[0]
    assert "prompt alpaca: 6 to train on, 3 held out" in notes[1]
    assert "1 cut at 128" in notes[1]
    assert "2 held-out examples dropped by clean.heldout_repeats: also trained on" in notes[1]
    kept = tokenize(config(data, clean={"heldout_repeats": "keep"}), TOKENIZER)
    assert (len(kept.heldout), len(kept.heldout_examples)) == (5, 5)
    notes = tokenize(config(data, clean={"overlong": "drop", "duplicates": "drop"}), TOKENIZER).notes
    assert "3 dropped by clean.duplicates" in notes[0]
    assert "1 dropped by clean.overlong" in notes[1]
    assert "also trained on" not in notes[1]


def test_the_split_is_by_the_data_seed_and_sizes_are_exact_after_dropping(data):
    long = {"instruction": "x", "output": "word " * 200}
    data.write_text(json.dumps([*ROWS, *[{**long, "instruction": str(n)} for n in range(20)]]))
    keys = {"clean": {"overlong": "drop"}, "size": 30}
    first, second = (tokenize(config(data, seed=seed, **keys), TOKENIZER) for seed in (1, 2))
    assert (len(first.train), len(first.heldout)) == (len(second.train), len(second.heldout)) == (30, 5)
    assert plain(first.heldout) != plain(second.heldout)
    with pytest.raises(ValueError, match="40 examples, but size and heldout=5 ask for at least 43"):
        tokenize(config(data, clean={"overlong": "drop"}, size=38), TOKENIZER)
