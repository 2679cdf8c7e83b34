"""`python -m harness`, and the console script `harness`."""

import sys
from importlib.util import find_spec

# What the command line itself imports; the stages import the rest of the extra `run`.
_NEEDED = ("hydra", "omegaconf", "pydantic", "transformers", "pandas", "wandb")
# Commands that need none of it: what is missing is what they are asked.
_LIGHT = ("doctor", "completion")


def main() -> None:
    """Run a command, or say in one line what it needs: the base installation is the noise alone."""
    from harness.commands import dispatch, named, usage

    prog = "python -m harness" if sys.argv[0].endswith("__main__.py") else "harness"
    words = sys.argv[1:]
    if words[:1] in (["-h"], ["--help"]):
        print(usage(prog))
        return
    if not words or not named(words[0]):
        words = ["run", *words]
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing and words[0] not in _LIGHT:
        sys.exit(f"error: {', '.join(missing)} not installed: the command needs pip install 'noise-harness[run]'")
    try:
        status = dispatch(words, prog)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
