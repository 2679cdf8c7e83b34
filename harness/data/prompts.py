"""Prompt templates, quoted as protocol constants: a changed character is a changed experiment.

Training and evaluation use the same functions: the prompt after training is, token for token, what preceded the
answers in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.config.data import Prompt
from harness.data import chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Stanford Alpaca, train.py PROMPT_DICT (github.com/tatsu-lab/stanford_alpaca); NEFTune trains with the same text
# (github.com/neelsjain/NEFTune experiment_code/dataset.py). The answer follows the colon directly.
ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)

# What NEFTune's evaluation adds to the Alpaca prompt, unlike its training. Only for reproduction.
ALPACA_EVALUATION_NEWLINE = "\n"

# FastChat, conversation.py, template "vicuna_v1.1" (github.com/lm-sys/FastChat): roles USER and ASSISTANT, separator
# style ADD_COLON_TWO with sep " " and sep2 "</s>", the end-of-text token of its models; here the tokenizer's own.
# The prompt ends in "ASSISTANT:" and the answer begins with a space.
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
VICUNA_FIRST = "{system} USER: {user} ASSISTANT:"
VICUNA_NEXT = "USER: {user} ASSISTANT:"
VICUNA_ANSWER = " {assistant}"

# OpenAI, chatml.md (github.com/openai/openai-python, release v0.28.0): a message is <|im_start|>, role, line end,
# text, <|im_end|>, with a newline between messages. No system message unless the data have one.
CHATML_MESSAGE = "<|im_start|>{role}\n{text}<|im_end|>\n"
CHATML_OPEN = "<|im_start|>assistant\n"
CHATML_END = "<|im_end|>"

# No template: plain text if there is no instruction, else the instruction on the lines before the answer.
PLAIN_CONTEXT = "{user}\n"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a conversation: `context` is given, `answer` is learnt; `ends`: the end-of-text token follows.

    `learnt`: false if the file marks the answer as not to be learnt.
    """

    context: str
    answer: str
    ends: bool = True
    learnt: bool = True


def alpaca(instruction: str, input_text: str = "") -> str:
    """The Alpaca prompt, with or without an input, ending in "### Response:" without a newline."""
    return _fill(ALPACA_WITH_INPUT if input_text else ALPACA, instruction=instruction, input=input_text)


def check_prompt(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a template that the tokenizer cannot express.

    Raises:
        ValueError: chat_template without one, or chatml without its two tokens.
    """
    others = "choose another dataset.prompt or a model whose tokenizer has it"
    if prompt == "chat_template" and not tokenizer.chat_template:
        raise ValueError(f"dataset.prompt=chat_template: the tokenizer has no chat template; {others}")
    for token in ("<|im_start|>", CHATML_END) if prompt == "chatml" else ():
        if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
            raise ValueError(f"dataset.prompt=chatml: the tokenizer has no token {token}; {others}")


def brings_start_token(prompt: Prompt) -> bool:
    """Whether the template itself contains the start-of-text token, so that none is added."""
    return prompt == "chat_template"


def render_prompt(prompt: Prompt, instruction: str, input_text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt for a model: the context of the first segment, without an answer."""
    if prompt == "alpaca":
        return alpaca(instruction, input_text)
    user = f"{instruction}\n\n{input_text}" if input_text else instruction
    if prompt == "chat_template":
        return chat_template.ask(tokenizer, user)
    return segments(prompt, [(user, "")], "", tokenizer)[0].context


def segments(
    prompt: Prompt, exchanges: Sequence[tuple[str, str]], system: str, tokenizer: PreTrainedTokenizerBase
) -> list[Segment]:
    """The segments of (user, assistant) exchanges; every answer is learnt, including what ends it.

    Raises:
        TemplateProblem: the tokenizer's chat template cannot express the conversation (`harness.data.chat_template`).
    """
    if prompt == "none":
        return [Segment(_fill(PLAIN_CONTEXT, user=user) if user else "", answer) for user, answer in exchanges]
    if prompt == "vicuna_v1.1":
        return _vicuna(exchanges, system or VICUNA_SYSTEM)
    if prompt == "chatml":
        return _chatml(exchanges, system, tokenizer.eos_token == CHATML_END)
    return [Segment(*parts) for parts in chat_template.chat_segments(exchanges, system, tokenizer)]


def _vicuna(exchanges: Sequence[tuple[str, str]], system: str) -> list[Segment]:
    contexts = [_fill(VICUNA_FIRST, system=system, user=exchanges[0][0])]
    contexts += [_fill(VICUNA_NEXT, user=user) for user, _ in exchanges[1:]]
    return [
        Segment(context, _fill(VICUNA_ANSWER, assistant=assistant))
        for context, (_, assistant) in zip(contexts, exchanges, strict=True)
    ]


def _chatml(exchanges: Sequence[tuple[str, str]], system: str, end_is_eos: bool) -> list[Segment]:
    found = []
    head = _fill(CHATML_MESSAGE, role="system", text=system) if system else ""
    for number, (user, assistant) in enumerate(exchanges, start=1):
        context = head + _fill(CHATML_MESSAGE, role="user", text=user) + CHATML_OPEN
        # A model that ends its texts with another token learns to stop after the last answer.
        found.append(Segment(context, assistant + CHATML_END, not end_is_eos and number == len(exchanges)))
        head = "\n"
    return found


def _fill(template: str, **values: str) -> str:
    """Replace in one pass: user text may contain braces, and an instruction may contain "{input}"."""
    filled, rest = "", template
    for name, value in values.items():
        head, found, tail = rest.partition(f"{{{name}}}")
        if found:
            filled, rest = filled + head + value, tail
    return filled + rest
