"""Prompt templates, quoted as protocol constants: a changed character is a changed experiment."""

from __future__ import annotations

# Stanford Alpaca, train.py PROMPT_DICT (github.com/tatsu-lab/stanford_alpaca); NEFTune trains with the same text.
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


def alpaca(instruction: str, input_text: str = "") -> str:
    """The Alpaca prompt, in its form with or without an input, ending in "### Response:" without a newline."""
    # One pass of replacement each: user text may hold braces, and an instruction may hold "{input}".
    head, tail = (ALPACA_WITH_INPUT if input_text else ALPACA).split("{instruction}")
    return head + instruction + tail.replace("{input}", input_text)
