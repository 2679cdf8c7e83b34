"""`python -m harness`, and the console script `harness`."""

import sys
from importlib.util import find_spec

# What the command line itself imports; the stages import the rest of the extra `run`.
_NEEDED = ("hydra", "omegaconf", "pydantic", "transformers", "pandas", "wandb")


def main() -> None:
    """Run the command line, or say in one line what it needs: the base installation is the noise alone."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f"error: {', '.join(missing)} not installed: the command needs pip install 'noise-harness[run]'")
    from harness.cli import main as run

    run()


if __name__ == "__main__":
    main()
