"""The embedded data set: seeded instruction and response pairs with exactly checkable answers.

    generate("train", size=5000, seed=0)      # items to fine-tune on
    generate("heldout", size=300, seed=0)     # the same families, problems that training never contains
    generate("unseen", size=100, seed=0)      # four families that training never contains
    check(item.family, item.output, answer)   # mark a model's answer: right or wrong
    partial_credit(item.family, item.output, answer)   # how much of it is right, from 0 to 1

To add a family, write one decorated function in a themed file of families/; core.py explains the parts.
"""

from harness.data.builtin.core import SPLITS, Split, split_of
from harness.data.builtin.items import Item, check, family_names, generate, partial_credit

__all__ = ["SPLITS", "Item", "Split", "check", "family_names", "generate", "partial_credit", "split_of"]
