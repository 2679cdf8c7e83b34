"""The command line as it was meant: -m wherever it stands, and a word on what is often typed otherwise."""

from __future__ import annotations

from collections.abc import Sequence

_SWEEP = ("-m", "--multirun")


def as_meant(arguments: Sequence[str]) -> list[str]:
    """What Hydra is given: options before settings, since it takes no settings after an option.

    Raises:
        ValueError: a space inside a list of values, which makes two arguments of it.
    """
    sweep = [argument for argument in arguments if argument in _SWEEP]
    rest = [argument for argument in arguments if argument not in _SWEEP]
    for first, second in zip(rest, [*rest[1:], ""], strict=True):
        if "=" in first and first.endswith(","):
            whole = first + ("" if "=" in second else second)
            raise ValueError(f"{first} {second}: values are listed without spaces: {whole.rstrip(',')}".rstrip())
    return [*sweep[:1], *rest]


def version() -> str:
    """ "noise-harness 0.1.0", of the installed package or of the folder that the code lies in."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return f"noise-harness {installed('noise-harness')}"
    except PackageNotFoundError:
        return "noise-harness (not installed)"
