"""Checks of a model's files before they are loaded: a second of reading JSON instead of a late crash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.config import ModelConfig
from harness.config.paths import resolve_path
from harness.record import read_mapping
from harness.record.files import open_regular
from harness.system.looks import looked_once
from harness.system.packages import is_installed, require_package

_MAPPINGS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    "model.safetensors.index.json",
)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def check_model(config: ModelConfig, fetch: bool = True) -> None:
    """Refuse a model that cannot load.

    Args:
        config: of the model.
        fetch: the model will be read, so with offline=true it must be in the local cache.

    Raises:
        ValueError: no source or two, a missing or empty folder, no tokenizer, pickled weights alone, a tokenizer
            with more tokens than the embedding has rows, a package that is not installed.
    """
    if config.architecture is not None and config.location is not None:
        raise ValueError(
            f"model={config.name}: model.architecture (random weights) and {config.location} are both given; "
            "choose model=local for a model of your own"
        )
    if config.architecture is None and config.location is None:
        raise ValueError(f"model={config.name}: give model.path (a folder or a .gguf file) or model.hub_id")
    if config.attention == "flash_attention_2" and not is_installed("flash_attn"):
        raise ValueError("model.attention=flash_attention_2: the package flash_attn is not installed; use sdpa")
    if config.path is not None:
        path = resolve_path(config.path)
        _refuse_pickle(path)
        if path.is_dir():
            _check_folder(path)
        else:
            _check_gguf(path)
    elif (
        config.hub_id is not None
        and fetch
        and os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    ):
        _check_cached(config)


def check_noisable(config: ModelConfig) -> None:
    """Refuse noise for a model whose layers have token embeddings of their own (Gemma 3n), from its sizes alone.

    Raises:
        ValueError: it has; `harness.train.loss.ResponseLoss` finds the others when they are loaded.
    """
    sizes: dict[str, Any] = config.shape or {}
    folder = resolve_path(config.path) if config.path is not None else None
    if folder is not None and (folder / "config.json").is_file():
        sizes = read_mapping(folder / "config.json")
    text = sizes.get("text_config")
    width = {**sizes, **(text if isinstance(text, dict) else {})}.get("hidden_size_per_layer_input")
    if width:
        raise ValueError(
            f"model={config.name}: its layers have token embeddings of their own "
            f"(hidden_size_per_layer_input={width}), which no noise on the input embedding can hide; train it with "
            "noise=none"
        )


@looked_once
def _refuse_pickle(path: Path) -> None:
    files = [path] if path.is_file() else sorted(path.iterdir())
    pickled = [each.name for each in files if each.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]
    if pickled and not any(each.suffix in (".safetensors", ".gguf") for each in files):
        raise ValueError(
            f"model.path={path}: {pickled[0]} is pickled, which runs code when it is read; "
            "convert it to safetensors (model.save_pretrained of a version that you trust)"
        )


@looked_once
def _check_folder(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        hint = ": it is an adapter; give its base model" if "adapter_config.json" in names else ""
        raise ValueError(f"model.path={folder}: no config.json in it{hint}")
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(f"model.path={folder}: no weights in it (no *.safetensors)")
    if not names & set(_TOKENIZERS):
        raise ValueError(
            f"model.path={folder}: no tokenizer in it ({', '.join(_TOKENIZERS)}); copy it from the model it was made of"
        )
    for name in names & set(_MAPPINGS):
        read_mapping(folder / name)
    _check_vocabulary(folder)
    _check_weights(folder)


def _check_weights(folder: Path) -> None:
    """Check headers and sizes of the safetensors files; broken downloads and git-lfs pointers fail here."""
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    places = read_mapping(index).get("weight_map") if index.exists() else {}
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{index}: key weight_map: expected a mapping of tensors to files")
    missing = [name for name in sorted(set(places.values())) if not (folder / name).exists()]
    if missing:
        raise ValueError(f"model.path={folder}: {missing[0]} is missing, which {index.name} names; fetch it")
    for path in sorted(folder.glob("*.safetensors")):
        try:
            open_regular(path).close()
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"model.path={folder}: {path.name} ({path.lstat().st_size:,} bytes) is no whole safetensors file "
                f"({error}); fetch it again (git-lfs leaves small pointers until `git lfs pull`)"
            ) from None


def _check_vocabulary(folder: Path) -> None:
    config = read_mapping(folder / "config.json")
    inner = config.get("text_config")
    rows = config.get("vocab_size") or (inner.get("vocab_size") if isinstance(inner, dict) else None)
    path = folder / "tokenizer.json"
    if not path.exists() or not isinstance(rows, int):
        return  # only the loaded tokenizer knows; load_model compares
    try:
        tokens = vocabulary_size(read_mapping(path))
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"{path}: not a tokenizer of the tokenizers library") from None
    if tokens > rows:
        raise ValueError(
            f"model.path={folder}: tokenizer.json has {tokens} tokens, the embedding only {rows} rows "
            "(config.json vocab_size): the tokenizer belongs to another model, or a token was added to it"
        )


def vocabulary_size(tokenizer: dict[str, Any]) -> int:
    """Rows that an embedding needs for a tokenizer.json: one more than its largest token id."""
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    ids = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()  # Unigram has a list
    added = (token["id"] for token in tokenizer.get("added_tokens", []))
    return max([*ids, *added], default=-1) + 1


def _check_gguf(path: Path) -> None:
    with open_regular(path) as file:
        magic = file.read(4)
    if path.suffix != ".gguf" or magic != b"GGUF":
        raise ValueError(f"model.path={path}: expected a model folder or a GGUF file, which starts with 'GGUF'")
    require_package("gguf", f"model.path={path}", "gguf")


def _check_cached(config: ModelConfig) -> None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(str(config.hub_id), "config.json", revision=config.revision)
    if not isinstance(found, str):
        revision = f" --revision {config.revision}" if config.revision else ""
        raise ValueError(
            f"model={config.name}: offline is set, and {config.hub_id} is not in the local cache; "
            f"fetch it where there is a network (hf download {config.hub_id}{revision}) or give model.path=FOLDER"
        )


def reason(error: Exception) -> str:
    """Why transformers could not read something, in one line.

    For models with their own Python files it advises running them, which this program never does.
    """
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return "it needs Python code of its own, which is never run here; use an architecture of transformers"
    return text


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn whatever transformers and tokenizers raise about malformed files into one line.

    They check little and raise anything: AttributeError for a null in config.json, a plain Exception for a token.

    Raises:
        ValueError: begins with `where`.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(where):
            raise
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{where}: {kind}{reason(error)}") from error
