"""`python -m harness.noise ratio MODEL DATA`: how strong a noise is in a model.

A door of the harness, and no part of the library beside it.
"""

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
    parser = argparse.ArgumentParser(prog="python -m harness.noise", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ratio = commands.add_parser("ratio", help="norm of the noise over that of the embeddings, by document")
    ratio.add_argument("model", help="a name of the group model, a folder or a GGUF file")
    ratio.add_argument("data", help="a name of the group dataset, or a file")
    ratio.add_argument("overrides", nargs="*", help="noise=symnoise dataset.max_length=256 ...")
    ratio.add_argument("--alphas", type=_numbers, default=ALPHAS, help="strengths to tell the ratio of: 1,5,10")
    ratio.add_argument("--ratios", type=_numbers, default=RATIOS, help="ratios to tell the alpha of: 0.1,0.2")
    ratio.add_argument("--documents", type=int, default=DOCUMENTS, help="training documents, from the first on")
    ratio.add_argument("--json", action="store_true", help="one object instead of a table")
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
