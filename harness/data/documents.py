"""Tokenised data sets: made once for all runs that share data, tokenizer and rules, then read from the cache.

The key of an entry is a hash of the examples themselves, the tokenizer and every setting that changes a token, so an
entry is never stale. An entry is one safetensors file; processes that need the same one wait for the first to write
it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from transformers import PreTrainedTokenizerBase

from harness.config import CleaningConfig, DatasetConfig, ModelConfig
from harness.data import Example, load_dataset, require, wanted_examples
from harness.data.batching import IGNORE_INDEX, Document
from harness.data.tokenize import Tokenized, TokenizingRules, tokenize_examples
from harness.models.tokenizer import load_tokenizer
from harness.record.cache import cache_dir, keep, one_maker, unfinished

_FORMAT = "3"  # increased by any change of tokenisation that the keys cannot see


@dataclass(frozen=True)
class Documents:
    """A data set ready to train on. Runs in one process share it, so its arrays are read-only.

    Attributes:
        train: `Document.index` counts from 0.
        heldout: likewise.
        train_examples: the examples of `train`, in the same order.
        heldout_examples: likewise.
        notes: what was read, cleaned and tokenised, for the log.
        entry: its file in the cache.
        origin: whether that file was made or found.
    """

    train: list[Document]
    heldout: list[Document]
    train_examples: list[Example]
    heldout_examples: list[Example]
    notes: list[str]
    entry: Path
    origin: str


@lru_cache(maxsize=4)
def load_documents(dataset: DatasetConfig, model: ModelConfig) -> Documents:
    """A data set in the tokens of a model; see `tokenize`."""
    return tokenize(dataset, load_tokenizer(model))


def tokenize(config: DatasetConfig, tokenizer: PreTrainedTokenizerBase) -> Documents:
    """The training and held-out documents of a data set: the first `heldout` that the rules keep are held out.

    Raises:
        ValueError: `load_dataset`, `tokenize_examples`, or too few examples left.
    """
    loaded = load_dataset(config)
    rules = tokenizing_rules(config)
    wanted = wanted_examples(config)
    tokenized, entry, origin = _cached(loaded.examples, tokenizer, rules, wanted)
    require(len(tokenized.documents), config)
    border = config.heldout
    heldout, train = tokenized.documents[:border], tokenized.documents[border:]
    train = [Document(index, each.input_ids, each.labels) for index, each in enumerate(train)]
    examples = [loaded.examples[place] for place in tokenized.sources]
    kept = _not_repeated(examples, border) if config.clean.heldout_repeats == "drop" else range(border)
    if border and not kept:
        raise ValueError(
            f"dataset={config.name}: all {border} held-out examples are also in the training part; fix the data, or "
            "set dataset.clean.duplicates=drop or dataset.clean.heldout_repeats=keep"
        )
    heldout = [Document(index, heldout[place].input_ids, heldout[place].labels) for index, place in enumerate(kept)]
    description = _describe(tokenized, train, heldout, border - len(kept), rules)
    heldout_examples = [examples[place] for place in kept]
    return Documents(
        train, heldout, examples[border:], heldout_examples, [loaded.describe(), description], entry, origin
    )


def tokenizing_rules(config: DatasetConfig) -> TokenizingRules:
    """The settings of a data set that decide its tokens."""
    clean = config.clean
    return TokenizingRules(config.prompt, config.max_length, clean.overlong, clean.long_prompts, clean.template)


def _describe(
    tokenized: Tokenized, train: list[Document], heldout: list[Document], repeated: int, rules: TokenizingRules
) -> str:
    lengths = np.array([len(each) for each in train])
    learnt = sum(int((each.labels != IGNORE_INDEX).sum()) for each in train)
    parts = [
        f"prompt {rules.prompt}: {len(train)} to train on, {len(heldout)} held out",
        f"{lengths.sum()} tokens, {learnt} learnt; median {int(np.median(lengths))}, longest {lengths.max()}",
        f"{tokenized.truncated} cut at {rules.max_length}, {tokenized.resplit} split at the border",
        *([f"{tokenized.inner_ends} answers hold the end-of-text token in their text"] if tokenized.inner_ends else []),
        *(f"{count} dropped{_rule(rule)}" for rule, count in tokenized.dropped.items() if count),
        *([f"{repeated} held-out examples dropped by clean.heldout_repeats: also trained on"] if repeated else []),
    ]
    return "; ".join(parts)


def _rule(name: str) -> str:
    return f" by clean.{name}" if name in CleaningConfig.model_fields else f": {name}"


def _not_repeated(examples: Sequence[Example], border: int) -> list[int]:
    """Indices of the examples before the border that do not occur after it."""
    training = {example.content for example in examples[border:]}
    return [place for place in range(border) if examples[place].content not in training]


def _cached(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, rules: TokenizingRules, wanted: int | None
) -> tuple[Tokenized, Path, str]:
    path = cache_dir() / "tokens" / f"{_key(examples, tokenizer, rules, wanted)}.safetensors"
    with one_maker(path):
        if path.exists():
            try:
                return _read(path), path, "tokens: from the cache"
            except (SafetensorError, KeyError, ValueError) as error:
                problem = f" (the entry there was unreadable: {error})"
        else:
            problem = ""
        tokenized = tokenize_examples(examples, tokenizer, rules=rules, wanted=wanted)
        kept = keep(lambda: _write(path, tokenized))
    return tokenized, path, f"tokens: made{problem}{'' if kept else ', and not kept'}"


def _key(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, rules: TokenizingRules, wanted: int | None
) -> str:
    digest = hashlib.sha256()
    settings = {"format": _FORMAT, "tokenizers": tokenizers.__version__, "wanted": wanted, **asdict(rules)}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    digest.update(_tokenizer_state(tokenizer))
    for example in examples:
        texts = [example.instruction, example.input, example.output, example.system]
        for text in (*texts, *(text for pair in example.more for text in pair)):
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        digest.update(f"{example.unlearnt}\n".encode())
    return digest.hexdigest()[:32]


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> bytes:
    """Everything that determines its tokens: the whole fast tokenizer, or vocabulary and settings of a slow one."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    state = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    settings = [type(tokenizer).__name__, str(tokenizer.special_tokens_map), str(tokenizer.chat_template)]
    return "\0".join([state, *settings, str(tokenizer("a")["input_ids"])]).encode()


def _write(path: Path, tokenized: Tokenized) -> None:
    documents = tokenized.documents
    tensors = {
        "input_ids": _flat([each.input_ids for each in documents]),
        "learnt": _flat([each.labels != IGNORE_INDEX for each in documents]).astype(np.uint8),
        "lengths": np.array([len(each) for each in documents], dtype=np.int64),
        "sources": np.array(tokenized.sources, dtype=np.int64),
    }
    counts = {name: getattr(tokenized, name) for name in ("truncated", "resplit", "inner_ends", "dropped")}
    temporary = unfinished(path)
    try:
        temporary.write_bytes(save(tensors, metadata={"counts": json.dumps(counts), "sha256": _checksum(tensors)}))
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _checksum(tensors: Mapping[str, np.ndarray]) -> str:
    """Checksum of all arrays; without it a flipped bit in a label would go unnoticed."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def _flat(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int32) if parts else np.zeros(0, dtype=np.int32)


def _read(path: Path) -> Tokenized:
    with safe_open(path, framework="numpy") as file:
        found = file.metadata()
        tensors = {name: file.get_tensor(name) for name in ("input_ids", "learnt", "lengths", "sources")}
    if _checksum(tensors) != found["sha256"]:
        raise ValueError("its checksum differs")
    counts, sources = json.loads(found["counts"]), tensors["sources"].tolist()
    input_ids = tensors["input_ids"].astype(np.int64)
    learnt, ends = tensors["learnt"], np.cumsum(tensors["lengths"])[:-1]
    labels = np.where(learnt, input_ids, IGNORE_INDEX)
    for array in (input_ids, labels):
        array.setflags(write=False)
    pieces = zip(np.split(input_ids, ends), np.split(labels, ends), strict=True) if sources else ()
    documents = [Document(index, ids, kept) for index, (ids, kept) in enumerate(pieces)]
    return Tokenized(documents, sources, **counts)
