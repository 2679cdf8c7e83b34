"""Examples become token ids with labels on the response; the prompt's tokens are a prefix of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from transformers import PreTrainedTokenizerBase

from harness.batching import Document
from harness.config import DatasetConfig, ModelConfig
from harness.data import EvalItem, Example, load_examples
from harness.model import load_tokenizer
from harness.prompts import alpaca

IGNORE = -100


@dataclass(frozen=True)
class Encoded:
    """Documents ready to train on, and what encoding did to them."""

    documents: list[Document]
    truncated: int
    resplit: int


@lru_cache(maxsize=4)
def encode_dataset(dataset: DatasetConfig, model: ModelConfig) -> tuple[Encoded, Encoded]:
    """The training and the held-out examples for this model; the runs of a sweep share them, so they are read-only."""
    train, heldout = load_examples(dataset)
    tokenizer = load_tokenizer(model)
    return (
        encode_examples(train, tokenizer, dataset.max_length),
        encode_examples(heldout, tokenizer, dataset.max_length),
    )


def encode_examples(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Prompt, response and end-of-text token per example, loss on response and end only.

    A prompt's tokens must be what the model sees at generation time, so where the tokenizer would merge
    across the border (`resplit` counts them) prompt and response are tokenised apart. Examples longer than
    `max_length` tokens are cut there (`truncated` counts them), as in the official code.

    Raises:
        ValueError: a prompt alone fills max_length, so nothing of its answer could be learnt.
    """
    if not examples:
        return Encoded([], 0, 0)
    prompts = [alpaca(example.instruction, example.input) for example in examples]
    wholes = [prompt + example.output for prompt, example in zip(prompts, examples, strict=True)]
    prompt_ids = tokenizer(prompts)["input_ids"]
    whole_ids = tokenizer(wholes)["input_ids"]
    documents, truncated, resplit = [], 0, 0
    for index, (example, prompt, whole) in enumerate(zip(examples, prompt_ids, whole_ids, strict=True)):
        if whole[: len(prompt)] != prompt:
            whole = prompt + tokenizer(example.output, add_special_tokens=False)["input_ids"]
            resplit += 1
        if len(prompt) >= max_length:
            raise ValueError(
                f"{example.where}: the prompt has {len(prompt)} tokens, dataset.max_length={max_length} "
                "leaves nothing to learn; raise max_length or drop the row"
            )
        whole = [*whole, tokenizer.eos_token_id]
        truncated += len(whole) > max_length
        documents.append(_document(index, whole[:max_length], len(prompt)))
    return Encoded(documents, truncated, resplit)


def _document(index: int, token_ids: list[int], prompt_length: int) -> Document:
    input_ids = np.asarray(token_ids, dtype=np.int64)
    labels = input_ids.copy()
    labels[:prompt_length] = IGNORE
    for array in (input_ids, labels):
        array.setflags(write=False)
    return Document(index, input_ids, labels)


def encode_prompts(items: Sequence[EvalItem], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The prompts exactly as in training, without an answer."""
    encoded: list[list[int]] = tokenizer([alpaca(item.instruction, item.input) for item in items])["input_ids"]
    return encoded
