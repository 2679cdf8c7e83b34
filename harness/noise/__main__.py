"""`python -m harness.noise ratio MODEL DATA`: measure how strong a noise is relative to a model's embeddings."""

# Unlike the rest of this package, the command needs the harness.

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec

# What the command needs besides torch.
_NEEDED = ("hydra", "omegaconf", "pydantic", "transformers")
ALPHAS = (1.0, 5.0, 10.0, 15.0, 30.0)
RATIOS = (0.1, 0.2, 0.4, 0.8)
DOCUMENTS = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, or say in one line what it needs."""
    parser = argparse.ArgumentParser(prog="python -m harness.noise", description="Measure how strong a noise is.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ratio = commands.add_parser("ratio", help="ratio of the norm of the noise to that of the embeddings, by document")
    ratio.add_argument("model", help="a model name (group model), a folder or a GGUF file")
    ratio.add_argument("data", help="a data set name (group dataset) or a file")
    ratio.add_argument("overrides", nargs="*", help="noise=symnoise dataset.max_length=256 ...")
    ratio.add_argument("--alphas", type=_numbers, default=ALPHAS, help="print the ratio at these alphas: 1,5,10")
    ratio.add_argument("--ratios", type=_numbers, default=RATIOS, help="print the alpha for these ratios: 0.1,0.2")
    ratio.add_argument("--documents", type=int, default=DOCUMENTS, help="number of training documents to use")
    ratio.add_argument("--json", action="store_true", help="print JSON instead of a table")
    words = parser.parse_args(arguments)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(f"error: {', '.join(missing)} not installed: pip install 'noise-harness[run]'", file=sys.stderr)
        return 2
    from harness.pipeline.ratio import run

    return run(words)


def _numbers(words: str) -> tuple[float, ...]:
    found = tuple(float(word) for word in words.split(","))
    if not all(0 < number < float("inf") for number in found):
        raise argparse.ArgumentTypeError(f"{words}: numbers above 0, separated by commas")
    return found


if __name__ == "__main__":
    sys.exit(main())
