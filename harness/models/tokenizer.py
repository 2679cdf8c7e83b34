"""The model's tokenizer, and how many tokens the model has positions and embedding rows for."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from harness.config import ModelConfig
from harness.config.paths import ASSETS
from harness.models.checks import reading
from harness.models.meta import published_config
from harness.models.source import source_of


@cache
def positions(config: ModelConfig) -> int | None:
    """Tokens that a sequence of the model may have; None: no limit.

    Raises:
        ValueError: there is no config, or the tokenizer has more tokens than it gives the embedding rows.
    """
    found = published_config(config) if config.architecture is not None else None
    if found is None:
        source, revision = source_of(config)
        with reading(f"model={config.name}: no config in {source}"):
            found = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    text = found.get_text_config()
    check_vocabulary(config, text.vocab_size)
    limit: int | None = getattr(text, "max_position_embeddings", None)
    return limit


@cache
def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The model's tokenizer.

    Raises:
        ValueError: the folder holds no tokenizer, or it has no end-of-text token (answers would never stop).
    """
    if config.architecture is not None:
        tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny_tokenizer", trust_remote_code=False)
    else:
        source, revision = source_of(config)
        with reading(f"model={config.name}: no tokenizer in {source}"):
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    return with_end(tokenizer, f"model={config.name}")


def load_saved_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that `save_model` wrote next to the weights."""
    with reading(f"{folder}: no tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return with_end(tokenizer, str(folder))


def with_end(tokenizer: PreTrainedTokenizerBase, where: str) -> PreTrainedTokenizerBase:
    """The tokenizer with a padding token, without adding a row to the embedding.

    A tokenizer without one pads with its end token, which is safe because only the attention mask marks padding
    (labels, noise, generation). The official code of the papers adds a token "[PAD]" and grows the embedding
    by a row instead.

    Raises:
        ValueError: there is no end-of-text token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{where}: the tokenizer has no end-of-text token, so answers would never end")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= len(tokenizer):
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_vocabulary(config: ModelConfig, rows: int) -> None:
    vocabulary = len(load_tokenizer(config))
    if vocabulary > rows:
        raise ValueError(f"model={config.name}: the tokenizer has {vocabulary} tokens, the embedding only {rows} rows")
