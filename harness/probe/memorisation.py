"""Answers to prompts of the training set, compared with the training answers, and to held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harness.data.batching import Document
from harness.generate.backends import GenerationSettings, generate
from harness.metrics import bleu, rouge_l

Row = dict[str, Any]


def memorisation_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    max_new_tokens: int,
) -> list[Row]:
    """One row for each document: what greedy decoding of its prompt writes, and ROUGE-L (percent) to its own answer.

    Both texts are cut at `max_new_tokens` tokens, so that a long answer does not count as a bad one. Decoding has no
    repetition penalty, which would suppress memorised text. Source of the measure: NEFTune 2310.05914 Figure 5.
    Only the first exchange of a conversation counts.
    """
    exchanges = [document.first_exchange() for document in documents]
    prompts = [prompt.tolist() for prompt, _ in exchanges]
    eos = tokenizer.eos_token_id
    settings = GenerationSettings(max_new_tokens=max_new_tokens, max_length=None, repetition_penalty=1.0)
    done = generate(
        model,
        prompts,
        settings,
        eos_token_id=eos,
        pad_token_id=eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    )
    outputs = [_text(tokenizer, completion.token_ids) for completion in done]
    answers = [_text(tokenizer, answer[:max_new_tokens].tolist()) for _, answer in exchanges]
    return [
        {"document": document.index, "output": output, "answer": answer, "rouge_l": rouge_l([output], [answer])}
        for document, output, answer in zip(documents, outputs, answers, strict=True)
    ]


def corpus_bleu(rows: Sequence[Row]) -> float:
    """BLEU (percent) of all outputs against their answers; a corpus-level score, without an interval."""
    return bleu([row["output"] for row in rows], [row["answer"] for row in rows])


def _text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    return str(tokenizer.decode([int(token) for token in token_ids], skip_special_tokens=True)).strip()
