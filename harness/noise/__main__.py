"""`python -m harness.noise ratio MODEL DATA`: a door of the harness, and no part of the library beside it."""

import sys
from importlib.util import find_spec

# What the command needs besides torch.
_NEEDED = ("hydra", "omegaconf", "pydantic", "transformers")


def main() -> None:
    """Run the command, or say in one line what it needs."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f"error: {', '.join(missing)} not installed: the command needs pip install 'noise-harness[run]'")
    from harness.pipeline.ratio import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
