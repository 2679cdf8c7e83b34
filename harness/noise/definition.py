"""The definition of a noise: its axes, their checks, and presets named after what they reproduce."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Distribution = Literal["uniform", "gaussian", "rademacher", "dropout", "none"]
Scale = Literal["raw", "matched", "relative"]
Pair = Literal["none", "antithetic", "independent"]
Length = Literal["true", "padded", "row"]
Where = Literal["all", "prompt", "response"]
Schedule = Literal["constant", "linear", "cosine", "warmup"]

# The only batch layout in which each of these lengths means what its name says.
LAYOUT_OF_LENGTH = {"padded": "padded", "row": "packed"}

# A user's own distribution: a function in a module on Python's path (see `harness.noise.distributions`).
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

_CHOICES: dict[str, tuple[str, ...]] = {
    "distribution": get_args(Distribution),
    "scale": get_args(Scale),
    "pair": get_args(Pair),
    "length": get_args(Length),
    "where": get_args(Where),
    "schedule": get_args(Schedule),
}


def is_own(distribution: str) -> bool:
    """Whether a distribution is given as MODULE:FUNCTION."""
    return isinstance(distribution, str) and _OWN.fullmatch(distribution) is not None


@dataclass(frozen=True)
class Noise:
    """One kind of embedding noise, as a point on freely combined axes.

    A document of L real tokens with embeddings X in R^(L x d) becomes X + alpha / sqrt(L d) * u, where u has
    independent entries (NEFTune, 2310.05914, Algorithm 1; SymNoise, 2312.01523, Algorithm 2).

    Attributes:
        distribution: of u. uniform on [-1, 1); standard gaussian; rademacher, +1 or -1 with probability 1/2
            each (the papers' "Bernoulli"). "dropout" is not additive but a control: entries of X are
            zeroed with probability `rate`, the others divided by 1 - rate; alpha, scale and length do not
            apply. "none" adds nothing, whatever alpha says. MODULE:FUNCTION is your own.
        alpha: strength, at least 0; 0 leaves the embeddings bitwise as they are.
        scale: raw: as above. matched: u divided by sqrt(3) where needed, so that every distribution has the
            variance 1/3 of the uniform one (2605.23171). relative: matched, and times the mean L2 norm of the
            document's token embeddings, so that one alpha is one strength in models whose embeddings differ in
            size. The norm counts as a number: no gradient flows through it.
        pair: antithetic: both X + e and X - e are trained on (SymNoise). independent: X + e and X + e' with
            two draws: the same cost without the symmetry.
        length: the L above. true: the document's own number of real tokens, as in the official training code.
            padded: the width of the padded batch, padding noised too, as in transformers. row: the real
            tokens of the row, with packed documents counted as one: a known bug, for reproduction.
        where: which tokens are noised: all; prompt, those with label -100; response, the others. It selects
            positions and does not change the strength: L remains that of the whole document.
        special_tokens: whether tokens marked in special_tokens_mask are noised.
        schedule: how alpha (for "dropout" the rate) changes over training, see `schedule_factor`.
        rate: of "dropout", in [0, 1).

    Raises:
        ValueError: a value that is unknown, out of range, or has no effect in this combination.
    """

    distribution: Distribution | str = "uniform"
    alpha: float = 5.0
    scale: Scale = "raw"
    pair: Pair = "none"
    length: Length = "true"
    where: Where = "all"
    special_tokens: bool = True
    schedule: Schedule = "constant"
    rate: float = 0.0

    def __post_init__(self) -> None:
        for key, choices in _CHOICES.items():
            value = getattr(self, key)
            if value not in choices and not (key == "distribution" and is_own(value)):
                raise ValueError(f"{key}={value!r}: choose from {', '.join(choices)}")
        if not isinstance(self.special_tokens, bool):
            raise ValueError(f"special_tokens={self.special_tokens!r}: must be true or false")
        if not _is_number(self.alpha) or self.alpha < 0:
            raise ValueError(f"alpha={self.alpha!r}: must be a finite number, 0 or more")
        if not _is_number(self.rate) or not 0 <= self.rate < 1:
            raise ValueError(f"rate={self.rate!r}: must be a number in [0, 1)")
        if self.distribution != "dropout" and self.rate:
            raise ValueError(f"rate={self.rate!r}: only distribution='dropout' has a rate")
        if self.distribution == "dropout" and (self.scale, self.length) != ("raw", "true"):
            raise ValueError(
                f"scale={self.scale!r}, length={self.length!r}: no effect with distribution='dropout'; "
                "leave them at 'raw' and 'true'"
            )

    @property
    def halves(self) -> int:
        """Rows trained on for each example: 2 for a pair, otherwise 1."""
        return 1 if self.pair == "none" else 2

    def strength(self, progress: float | None = None) -> float:
        """alpha (for "dropout" the rate, for "none" 0) after the schedule.

        Args:
            progress: share of the training steps done, in [0, 1]; needed by every schedule but constant.
        """
        if self.distribution == "none":
            return 0.0
        peak = float(self.rate if self.distribution == "dropout" else self.alpha)
        if self.schedule == "constant":
            return peak
        if progress is None:
            raise ValueError(f"schedule={self.schedule!r}: needs the progress of training, which was not given")
        return peak * schedule_factor(self.schedule, progress)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# What each name means; alpha is left to the caller. Sources: the class docstring and docs/noise.md.
PRESETS: dict[str, dict[str, Any]] = {
    "none": {"distribution": "none"},
    "neftune": {"distribution": "uniform"},
    "neftune_hf": {"distribution": "uniform", "length": "padded"},
    "neftune_relative": {"distribution": "uniform", "scale": "relative"},
    "gaussian": {"distribution": "gaussian"},
    "gaussian_matched": {"distribution": "gaussian", "scale": "matched"},
    "bernoulli": {"distribution": "rademacher"},
    "bernoulli_matched": {"distribution": "rademacher", "scale": "matched"},
    "symnoise": {"distribution": "rademacher", "pair": "antithetic"},
    "symnoise_matched": {"distribution": "rademacher", "pair": "antithetic", "scale": "matched"},
    "symnoise_relative": {"distribution": "rademacher", "pair": "antithetic", "scale": "relative"},
    "neftune_x2": {"distribution": "uniform", "pair": "independent"},
    "bernoulli_x2": {"distribution": "rademacher", "pair": "independent"},
    "sym_uniform": {"distribution": "uniform", "pair": "antithetic"},
    "sym_gaussian": {"distribution": "gaussian", "pair": "antithetic"},
    "embedding_dropout": {"distribution": "dropout", "rate": 0.1},
}


WARMUP_SHARE = 0.1


def _constant(progress: float) -> float:
    del progress
    return 1.0


def _linear(progress: float) -> float:
    return 1.0 - progress


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _warmup(progress: float) -> float:
    return min(1.0, progress / WARMUP_SHARE)


_FACTORS: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "warmup": _warmup,
}


def schedule_factor(schedule: str, progress: float) -> float:
    """The factor on alpha when the fraction `progress` of the training steps is done.

    With t = progress: constant 1; linear 1 - t; cosine (1 + cos(pi t)) / 2; warmup min(1, t / 0.1).
    The papers use only constant.

    Raises:
        ValueError: progress outside [0, 1] or no such schedule.
    """
    if schedule not in _FACTORS:
        raise ValueError(f"schedule={schedule!r}: choose from {', '.join(_FACTORS)}")
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress={progress!r}: the fraction of training done must be in [0, 1]")
    return _FACTORS[schedule](progress)
