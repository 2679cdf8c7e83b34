"""Turns examples into token ids with labels on the answers; a prompt's tokens are a prefix of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from harness.config.data import Prompt
from harness.data import EvalItem, Example
from harness.data.batching import IGNORE_INDEX, Document
from harness.data.chat_template import TemplateProblem
from harness.data.examples import with_input
from harness.data.prompts import (
    ALPACA_EVALUATION_NEWLINE,
    Segment,
    alpaca,
    brings_start_token,
    check_prompt,
    render_prompt,
    segments,
)

_RULES = ("template", "overlong", "long_prompts")
_UNLEARNT = "nothing to predict"
ANY_ANSWER = "An answer."  # for templates that require one; its text decides nothing
_CHUNK = 2048  # examples tokenised at once: enough for all cores, in little memory


@dataclass(frozen=True)
class TokenizingRules:
    """How examples are laid out, and what happens to those longer than `max_length` tokens."""

    prompt: Prompt = "alpaca"
    max_length: int = 512
    overlong: Literal["truncate", "drop", "error"] = "truncate"
    long_prompts: Literal["drop", "error"] = "error"
    template: Literal["drop", "error"] = "error"


@dataclass
class Tokenized:
    """Documents ready to train on, and what tokenisation did to them.

    Attributes:
        documents: in the order of the examples; `Document.index` counts them from 0.
        sources: for each document the index of its example.
        truncated: documents cut at max_length.
        resplit: answers tokenised separately from their prompt, because the tokenizer would merge across the border.
        inner_ends: answers whose text contains the end-of-text token, so that stopping early is learnt.
        dropped: examples left out, by the rule of `dataset.clean`.
    """

    documents: list[Document] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    truncated: int = 0
    resplit: int = 0
    inner_ends: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*_RULES, _UNLEARNT), 0))


def tokenize_examples(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    rules: TokenizingRules = TokenizingRules(),
    wanted: int | None = None,
) -> Tokenized:
    """Prompt, answer and end-of-text token per example, and the same for later exchanges; loss on answers and ends.

    A prompt's tokens must be those that the model sees at generation time, so if the tokenizer would merge across the
    border (`resplit` counts them), prompt and answer are tokenised separately. Truncated examples are cut as in the
    papers' code, so their end is not learnt.

    Args:
        wanted: stop after this many documents; None: tokenize all.

    Raises:
        ValueError: an example that no rule lets pass, naming file, row and what to do; or `check_prompt`.
    """
    check_prompt(rules.prompt, tokenizer)
    tokenized, start = Tokenized(), 0
    while start < len(examples) and (wanted is None or len(tokenized.documents) < wanted):
        missing = _CHUNK if wanted is None else min(_CHUNK, wanted - len(tokenized.documents))
        chunk = examples[start : start + missing]
        for place, ids, learnt in _tokenize_chunk(chunk, tokenizer, rules, tokenized):
            _add(tokenized, start + place, chunk[place], ids, learnt, rules)
        start += len(chunk)
    return tokenized


def tokenize_prompts(
    items: Sequence[EvalItem],
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt = "alpaca",
    evaluation_newline: bool = False,
) -> list[list[int]]:
    """The prompts exactly as in training, without an answer.

    Args:
        evaluation_newline: add the newline that the papers' evaluation adds, unlike their training (Alpaca's prompt
        only).
    """
    check_prompt(prompt, tokenizer)
    if any(item.history or item.system for item in items):
        return [_conversation_ids(item, tokenizer, prompt, evaluation_newline) for item in items]
    texts = [render_prompt(prompt, item.instruction, item.input, tokenizer) for item in items]
    if evaluation_newline:
        texts = [text + ALPACA_EVALUATION_NEWLINE for text in texts]
    start = _start_ids(prompt, tokenizer)
    return [[*start, *ids] for ids in _ids(texts, tokenizer)]


def _conversation_ids(
    item: EvalItem, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, evaluation_newline: bool
) -> list[int]:
    """The conversation so far as in training, up to where the last answer begins."""
    if not item.history and not item.system:
        return tokenize_prompts([item], tokenizer, prompt, evaluation_newline)[0]
    asked = with_input(item.instruction, item.input)
    parts = _segments(prompt, [*item.history, (asked, ANY_ANSWER)], item, tokenizer)
    border, ids = Border(tokenizer), _start_ids(prompt, tokenizer)
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        added = ALPACA_EVALUATION_NEWLINE if last and evaluation_newline else ""
        (context,) = border.ids([part.context + added], [number > 0])
        whole = context if last else _joined(border, part, context, number > 0)[0]
        ids += [*whole, tokenizer.eos_token_id] if part.ends and not last else whole
    return ids


def _segments(
    prompt: Prompt, exchanges: list[tuple[str, str]], item: EvalItem, tokenizer: PreTrainedTokenizerBase
) -> list[Segment]:
    what = f"eval_set: the conversation that asks {item.instruction[:50]!r}"
    if item.system and prompt in ("alpaca", "none"):
        raise ValueError(f"{what} has a system message, for which dataset.prompt={prompt} has no place")
    if prompt == "alpaca":  # one after the other, as its saved template has it
        return [Segment(alpaca(user), answer) for user, answer in exchanges]
    try:
        return segments(prompt, exchanges, item.system, tokenizer)
    except TemplateProblem as problem:
        raise ValueError(f"{what}: dataset.prompt={prompt}: {problem}") from None


def _joined(border: Border, segment: Segment, context: list[int], later: bool) -> tuple[list[int], bool]:
    """Context and answer, and whether they had to be tokenised apart."""
    (whole,) = border.ids([segment.context + segment.answer], [later])
    if whole[: len(context)] == context:
        return whole, False
    return context + border.continued(segment.answer), True


def _tokenize_chunk(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, rules: TokenizingRules, tokenized: Tokenized
) -> Iterator[tuple[int, list[int], list[bool]]]:
    """Index, token ids and mask of learnt tokens for each example that can be expressed."""
    rendered = [_render(example, tokenizer, rules, tokenized) for example in examples]
    flat = [(number, segment) for each in rendered for number, segment in enumerate(each or ())]
    border = Border(tokenizer)
    contexts = iter(border.ids([segment.context for _, segment in flat], [number > 0 for number, _ in flat]))
    texts = [segment.context + segment.answer for _, segment in flat]
    wholes = iter(border.ids(texts, [number > 0 for number, _ in flat]))
    start, eos = _start_ids(rules.prompt, tokenizer), tokenizer.eos_token_id
    for place, (example, parts) in enumerate(zip(examples, rendered, strict=True)):
        if parts is None:
            continue
        ids, learnt, split = list(start), [False] * len(start), 0
        for segment in parts:
            context, whole = next(contexts), next(wholes)
            if whole[: len(context)] != context:
                whole = context + border.continued(segment.answer)
                split += 1
            tokenized.inner_ends += eos in (whole if segment.ends else whole[:-1])[len(context) :]
            ids += [*whole, eos] if segment.ends else whole
            learnt += [False] * len(context) + [segment.learnt] * (len(ids) - len(learnt) - len(context))
        tokenized.resplit += split
        if rules.prompt == "chat_template" and not _is_whole(parts, ids, tokenizer):
            fault = "the tokenizer joins the answer with the text before it, so its tokens are not the template's"
            _refuse_template(tokenized, rules, f"{example.where}: {fault}")
            continue
        yield place, ids, learnt


def _is_whole(parts: list[Segment], ids: list[int], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether these are the tokens that `apply_chat_template` gives for the whole conversation."""
    text = "".join(segment.context + segment.answer for segment in parts)
    return _ids([text], tokenizer)[0] == (ids[:-1] if parts[-1].ends else ids)


def _render(
    example: Example, tokenizer: PreTrainedTokenizerBase, rules: TokenizingRules, tokenized: Tokenized
) -> list[Segment] | None:
    if rules.prompt == "alpaca":
        found = [Segment(alpaca(example.instruction, example.input), example.output)]
    else:
        try:
            found = segments(rules.prompt, example.exchanges, example.system, tokenizer)
        except TemplateProblem as problem:
            _refuse_template(tokenized, rules, f"{example.where}: dataset.prompt=chat_template: {problem}")
            return None
    return [replace(part, learnt=place not in example.unlearnt) for place, part in enumerate(found)]


def _refuse_template(tokenized: Tokenized, rules: TokenizingRules, problem: str) -> None:
    if rules.template == "error":
        raise ValueError(f"{problem}; or drop such rows: dataset.clean.template=drop")
    tokenized.dropped["template"] += 1


class Border:
    """Tokenise texts separately, but as within the whole.

    Tokenizers like Llama's put "▁" (a space) before every text, which is right for the first text of a conversation but
    adds a space to later ones. So later texts are tokenised after a prefix, which is then removed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._end = str(tokenizer.eos_token)
        bare, self._line = _ids(["a", "\n"], tokenizer)
        behind_line, behind_end = _ids(["\na", f"{self._end}a"], tokenizer)
        self._prefixes = behind_line[len(self._line) :] != bare
        self._prefixes_behind_end = behind_end[1:] != bare

    def ids(self, texts: list[str], later: list[bool]) -> list[list[int]]:
        """Tokens of each text; `later` ones as they are after an end token."""
        if not self._prefixes_behind_end:
            return _ids(texts, self._tokenizer)
        found = _ids([self._end * behind + text for text, behind in zip(texts, later, strict=True)], self._tokenizer)
        return [ids[behind:] for ids, behind in zip(found, later, strict=True)]

    def continued(self, text: str) -> list[int]:
        """Tokens of a text in the middle of another."""
        if not self._prefixes:
            return _ids([text], self._tokenizer)[0]
        found = _ids(["\n" + text], self._tokenizer)[0]
        if found[: len(self._line)] != self._line:  # the text begins with newlines, and the tokenizer merges them
            return _ids([text], self._tokenizer)[0]
        return found[len(self._line) :]


def _ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    return ids


def _start_ids(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that the tokenizer puts before a text, without any that it puts after."""
    if brings_start_token(prompt):
        return []
    bare, full = _ids(["a"], tokenizer)[0], list(tokenizer("a")["input_ids"])
    return full[: next(at for at in range(len(full)) if full[at : at + len(bare)] == bare)]


def _add(
    tokenized: Tokenized, place: int, example: Example, ids: list[int], learnt: list[bool], rules: TokenizingRules
) -> None:
    """Append the document, or cut or drop it as the rules say."""
    limit = rules.max_length
    if not any(learnt[1:]):  # the first token is never a target
        tokenized.dropped[_UNLEARNT] += 1
        return
    if not any(learnt[1:limit]):
        _refuse_or_count(tokenized, "long_prompts", rules.long_prompts, example, learnt.index(True, 1), limit)
        return
    if len(ids) > limit and rules.overlong != "truncate":
        _refuse_or_count(tokenized, "overlong", rules.overlong, example, len(ids), limit)
        return
    tokenized.truncated += len(ids) > limit
    input_ids = np.asarray(ids[:limit], dtype=np.int64)
    labels = np.where(np.asarray(learnt[:limit]), input_ids, IGNORE_INDEX)
    for array in (input_ids, labels):
        array.setflags(write=False)
    tokenized.documents.append(Document(len(tokenized.documents), input_ids, labels))
    tokenized.sources.append(place)


def _refuse_or_count(tokenized: Tokenized, rule: str, policy: str, example: Example, tokens: int, limit: int) -> None:
    if policy == "drop":
        tokenized.dropped[rule] += 1
        return
    what = f"the prompt has {tokens} tokens" if rule == "long_prompts" else f"the example has {tokens} tokens"
    then = "leaves nothing to learn" if rule == "long_prompts" else "is less"
    raise ValueError(
        f"{example.where}: {what}, dataset.max_length={limit} {then}; raise max_length, drop the row, "
        f"or set dataset.clean.{rule}=drop"
    )
