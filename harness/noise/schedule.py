"""How the strength of the noise moves over training: pure functions of the progress in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

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
    """The share of alpha in force when the share `progress` of the training steps is done.

    With t = progress: constant 1; linear 1 - t; cosine (1 + cos(pi t)) / 2; warmup min(1, t / 0.1).
    The papers use constant only.

    Raises:
        ValueError: progress outside [0, 1] or no such schedule.
    """
    if schedule not in _FACTORS:
        raise ValueError(f"schedule={schedule!r}: choose from {', '.join(_FACTORS)}")
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress={progress!r}: the share of training done lies in [0, 1]")
    return _FACTORS[schedule](progress)
