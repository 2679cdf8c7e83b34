"""The command line as it was meant: -m may stand anywhere, and common slips get a hint."""

from __future__ import annotations

from collections.abc import Sequence

_SWEEP = ("-m", "--multirun")
# Hydra's options that take a value; --KEY=VALUE of any other is a setting as W&B's sweep agent writes it.
_HYDRA = ("--cfg", "--package", "--info", "--config-path", "--config-name", "--config-dir", "--experimental-rerun")


def as_meant(arguments: Sequence[str]) -> list[str]:
    """The arguments in the order that Hydra needs: it accepts no settings after an option.

    Raises:
        ValueError: a space inside a list of values, which splits it into two arguments.
    """
    sweep = [argument for argument in arguments if argument in _SWEEP]
    rest = [_setting(argument) for argument in arguments if argument not in _SWEEP]
    for first, second in zip(rest, [*rest[1:], ""], strict=True):
        if "=" in first and first.endswith(","):
            whole = first + ("" if "=" in second else second)
            raise ValueError(f"{first} {second}: values are listed without spaces: {whole.rstrip(',')}".rstrip())
    return [*sweep[:1], *rest]


def _setting(argument: str) -> str:
    """alpha=5 of --alpha=5; anything else as it is."""
    name, sign, _ = argument.partition("=")
    return argument[2:] if sign and name.startswith("--") and name not in _HYDRA else argument


def version() -> str:
    """ "noise-harness 0.1.0": the version of the installed package, if there is one."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return f"noise-harness {installed('noise-harness')}"
    except PackageNotFoundError:
        return "noise-harness (not installed)"
