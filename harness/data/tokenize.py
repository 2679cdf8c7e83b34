"""Examples become token ids with labels on the answers; a prompt's tokens are a prefix of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from harness.config.data import Prompt
from harness.data import EvalItem, Example
from harness.data.batching import IGNORE_INDEX, Document
from harness.data.prompts import (
    ALPACA_EVALUATION_NEWLINE,
    Segment,
    alpaca,
    brings_start_token,
    check_prompt,
    render_prompt,
    segments,
)

_CHUNK = 2048  # examples tokenised at once: enough for all cores, little memory


@dataclass(frozen=True)
class EncodingRules:
    """How examples are laid out, and what happens to those longer than `max_length` tokens."""

    prompt: Prompt = "alpaca"
    max_length: int = 512
    overlong: Literal["truncate", "drop", "error"] = "truncate"
    long_prompts: Literal["drop", "error"] = "error"


@dataclass
class Encoded:
    """Documents ready to train on, and what encoding did to them.

    Attributes:
        documents: in the order of the examples; `Document.index` counts them from 0.
        sources: for each document the place of its example.
        truncated: documents cut at max_length.
        resplit: answers tokenised apart from their prompt, because the tokenizer would merge across the border.
        inner_ends: answers whose own text holds the end-of-text token, so that stopping early is learnt.
        dropped: examples left out, by the rule of `dataset.clean`.
    """

    documents: list[Document] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    truncated: int = 0
    resplit: int = 0
    inner_ends: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: {"overlong": 0, "long_prompts": 0})


def encode_examples(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    rules: EncodingRules = EncodingRules(),
    wanted: int | None = None,
) -> Encoded:
    """Prompt, answer and end-of-text token per example, and the same for later exchanges; loss on answers and ends.

    A prompt's tokens must be what the model sees at generation time, so where the tokenizer would merge across the
    border (`resplit` counts them) prompt and answer are tokenised apart. Truncated examples are cut as in the
    papers' code: the end that was cut off is not learnt.

    Args:
        wanted: stop at so many documents; None: encode all.

    Raises:
        ValueError: an example that no rule lets pass, naming file, row and what to do; or `check_prompt`.
    """
    check_prompt(rules.prompt, tokenizer)
    encoded, start = Encoded(), 0
    while start < len(examples) and (wanted is None or len(encoded.documents) < wanted):
        missing = _CHUNK if wanted is None else min(_CHUNK, wanted - len(encoded.documents))
        chunk = examples[start : start + missing]
        for place, (example, ids, learnt) in enumerate(_tokenise(chunk, tokenizer, rules, encoded), start=start):
            _add(encoded, place, example, ids, learnt, rules)
        start += len(chunk)
    return encoded


def encode_prompts(
    items: Sequence[EvalItem],
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt = "alpaca",
    evaluation_newline: bool = False,
) -> list[list[int]]:
    """The prompts exactly as in training, without an answer.

    Args:
        evaluation_newline: add what the papers' evaluation adds and their training lacks (Alpaca's prompt only).
    """
    check_prompt(prompt, tokenizer)
    texts = [render_prompt(prompt, item.instruction, item.input, tokenizer) for item in items]
    if evaluation_newline:
        texts = [text + ALPACA_EVALUATION_NEWLINE for text in texts]
    start = _start_ids(prompt, tokenizer)
    return [[*start, *ids] for ids in _ids(texts, tokenizer)]


def _tokenise(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, rules: EncodingRules, encoded: Encoded
) -> Iterator[tuple[Example, list[int], list[bool]]]:
    """Token ids of each example, and which of them are learnt."""
    rendered = [_render(example, tokenizer, rules.prompt) for example in examples]
    flat = [segment for each in rendered for segment in each]
    contexts = iter(_ids([segment.context for segment in flat], tokenizer))
    wholes = iter(_ids([segment.context + segment.answer for segment in flat], tokenizer))
    start, eos = _start_ids(rules.prompt, tokenizer), tokenizer.eos_token_id
    for example, parts in zip(examples, rendered, strict=True):
        ids, learnt = list(start), [False] * len(start)
        for segment in parts:
            context, whole = next(contexts), next(wholes)
            if whole[: len(context)] != context:
                whole = context + _ids([segment.answer], tokenizer)[0]
                encoded.resplit += 1
            encoded.inner_ends += eos in (whole if segment.ends else whole[:-1])[len(context) :]
            ids += [*whole, eos] if segment.ends else whole
            learnt += [False] * len(context) + [True] * (len(ids) - len(learnt) - len(context))
        yield example, ids, learnt


def _render(example: Example, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[Segment]:
    if prompt == "alpaca":
        return [Segment(alpaca(example.instruction, example.input), example.output)]
    return segments(prompt, example.exchanges, example.system, tokenizer)


def _ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    return ids


def _start_ids(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before a text; never what it may put behind one."""
    if brings_start_token(prompt):
        return []
    bare, full = _ids(["a"], tokenizer)[0], list(tokenizer("a")["input_ids"])
    return full[: next(at for at in range(len(full)) if full[at : at + len(bare)] == bare)]


def _add(
    encoded: Encoded, place: int, example: Example, ids: list[int], learnt: list[bool], rules: EncodingRules
) -> None:
    """Append the document, cut or left out as the rules say."""
    limit = rules.max_length
    if not any(learnt[:limit]):
        _refuse_or_count(encoded, "long_prompts", rules.long_prompts, example, learnt.index(True), limit)
        return
    if len(ids) > limit and rules.overlong != "truncate":
        _refuse_or_count(encoded, "overlong", rules.overlong, example, len(ids), limit)
        return
    encoded.truncated += len(ids) > limit
    input_ids = np.asarray(ids[:limit], dtype=np.int64)
    labels = np.where(np.asarray(learnt[:limit]), input_ids, IGNORE_INDEX)
    for array in (input_ids, labels):
        array.setflags(write=False)
    encoded.documents.append(Document(len(encoded.documents), input_ids, labels))
    encoded.sources.append(place)


def _refuse_or_count(encoded: Encoded, rule: str, policy: str, example: Example, tokens: int, limit: int) -> None:
    if policy == "drop":
        encoded.dropped[rule] += 1
        return
    what = f"the prompt has {tokens} tokens" if rule == "long_prompts" else f"the example has {tokens} tokens"
    then = "leaves nothing to learn" if rule == "long_prompts" else "is less"
    raise ValueError(
        f"{example.where}: {what}, dataset.max_length={limit} {then}; raise max_length, drop the row, "
        f"or set dataset.clean.{rule}=drop"
    )
