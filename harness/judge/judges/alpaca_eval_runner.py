"""Runs inside the environment of the alpaca_eval package, never inside ours: pairs in, annotations out, by chunks.

Standard input: a line of JSON with annotators_config and seed, then a line for each chunk: a list of pairs
(instruction, output_1, output_2). Standard output: a line for each chunk, the list of its annotated rows. Nothing is
asked before its chunk has come. What the package prints goes to standard error.
Imports nothing of this project: that environment does not have it.
"""

import json
import math
import os
import sys


def main() -> None:
    """Annotate chunk after chunk until the input ends."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from alpaca_eval.annotators import PairwiseAnnotator

    request = json.loads(sys.stdin.buffer.readline())
    # No cache of its own: it would keep an unparsed reply as a verdict, and the verdict store is ours.
    annotator = PairwiseAnnotator(
        annotators_config=request["annotators_config"], seed=request["seed"], caching_path=None
    )
    for line in sys.stdin.buffer:
        rows = annotator.annotate_pairs(json.loads(line))
        print(json.dumps([{key: plain(value) for key, value in row.items()} for row in rows]), file=results, flush=True)


def plain(value: object) -> object:
    """The value as JSON has it: NaN is null, a NumPy scalar a number."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    main()
