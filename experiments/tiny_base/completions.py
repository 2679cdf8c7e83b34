"""What a base model knows before fine-tuning: `python -m experiments.tiny_base.completions FOLDER`.

The model completes plain statements of problems; a family's accuracy is the share that greedy decoding gets
exactly right. Only wordings count that tell the whole problem before its answer; a family without one is left out.

B rows, T tokens of a row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from random import Random
from string import Formatter

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from harness.data.builtin.core import FAMILIES, LEVELS, Family, Split, split_of
from harness.data.builtin.items import family_names

# Slots of a statement that state the answer, each in its family.
_ANSWER_SLOTS = {"answer", "total", "city", "times", "reversed", "thing"}


def questions(family: Family, split: Split, size: int, seed: int) -> list[tuple[str, str]]:
    """(beginning, answer) of `size` statements on problems of a split; none where no wording allows it."""
    templates = list(_whole_before_answer(family))
    rng = Random(f"builtin/probe/{family.name}/{seed}")
    found: list[tuple[str, str]] = []
    while templates and len(found) < size:
        problem = family.draw(rng, rng.choice(LEVELS))
        if split_of(problem.key) == split:
            beginning, slot = rng.choice(templates)
            slots = problem.slots | {"answer": problem.answer}
            found.append((beginning.format(**slots), slots[slot]))
    return found


def _whole_before_answer(family: Family) -> Iterator[tuple[str, str]]:
    """(template up to the answer, the answer's slot) of the statements that tell the whole problem first."""
    needed = [_slots(instruction) for instruction in family.instructions]
    for template in family.statements:
        for slot in _slots(template) & _ANSWER_SLOTS:
            before = template.partition("{" + slot + "}")[0]
            if any(each <= _slots(before) for each in needed):
                yield before, slot


def _slots(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


@torch.no_grad()
def completes(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: list[tuple[str, str]]) -> list[bool]:
    """Whether greedy decoding continues each beginning with its answer.

    One forward pass on both: decoding gives the answer exactly if each of its tokens is the likeliest there.
    """
    encoded = tokenizer(
        [beginning + answer for beginning, answer in asked],
        return_offsets_mapping=True,
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    model.eval()
    ids_BT = encoded["input_ids"]
    logits = model(input_ids=ids_BT, attention_mask=encoded["attention_mask"], use_cache=False).logits
    right_BT = logits[:, :-1].argmax(-1) == ids_BT[:, 1:]
    starts = torch.tensor([[len(beginning)] for beginning, _ in asked])
    of_answer_BT = encoded["offset_mapping"][:, 1:, 1] > starts
    return (right_BT | ~of_answer_BT).all(1).tolist()


def accuracies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    split: Split,
    size: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Share of statements completed rightly, by family."""
    found = {}
    for name in family_names("train"):
        if asked := questions(FAMILIES[name], split, size, seed):
            found[name] = sum(completes(model, tokenizer, asked)) / len(asked)
    return found


def main() -> None:
    """Print a Markdown table: family, accuracy on train problems, on held-out problems."""
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(sys.argv[1])  # type: ignore[assignment]
    train, heldout = (accuracies(model, tokenizer, split) for split in ("train", "heldout"))
    print("| family | train problems | held-out problems |\n|---|---|---|")
    for name in train:
        print(f"| {name} | {train[name]:.0%} | {heldout[name]:.0%} |")
    print(f"| mean | {sum(train.values()) / len(train):.0%} | {sum(heldout.values()) / len(heldout):.0%} |")


if __name__ == "__main__":
    main()
