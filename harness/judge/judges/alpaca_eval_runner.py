"""Runs in the environment of the alpaca_eval package, not in ours: pairs in, annotations out, in chunks.

Standard input: a line of JSON with annotators_config and seed, then one line per chunk: a list of pairs (instruction,
output_1, output_2). Standard output: one line per chunk, the list of annotated rows. Nothing is asked before its chunk
has arrived. What the package prints goes to standard error. Imports nothing from this project, which is not installed
there.
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
    # No cache: it would keep an unparsed reply as a verdict, and the verdict store is ours.
    annotator = PairwiseAnnotator(
        annotators_config=request["annotators_config"], seed=request["seed"], caching_path=None
    )
    for line in sys.stdin.buffer:
        rows = annotator.annotate_pairs(json.loads(line))
        print(json.dumps([{key: plain(value) for key, value in row.items()} for row in rows]), file=results, flush=True)


def plain(value: object) -> object:
    """Convert a value for JSON: NaN to null, a NumPy scalar to a number."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    main()
