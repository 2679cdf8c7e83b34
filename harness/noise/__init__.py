"""Embedding noise for instruction fine-tuning: NEFTune, SymNoise and their controls.

definition     Noise, its axes, presets, schedules       perturbation the noise as a pure function
distributions  uniform, gaussian, random signs, dropout  randomness   generators keyed by step and document
tokens         documents and padding of a batch          embedding    a model's input embedding, and when it trains
inject         for other people's loops                  statistics   the noise that actually arrived, and its time
pairs          a batch doubled, as data                  verification what one training pass shows of the noise
callback       for transformers' Trainer and its derivatives (the only file that needs transformers)

Imports only torch, and only when a name is first used, so that a schema can read the axes without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.noise.definition import PRESETS, Noise, schedule_factor
    from harness.noise.embedding import input_embedding
    from harness.noise.inject import EmbeddingNoise
    from harness.noise.pairs import paired
    from harness.noise.perturbation import perturb
    from harness.noise.randomness import content_key, noise_generators
    from harness.noise.statistics import NoiseStatistics, realised_noise
    from harness.noise.verification import NoiseReport, verify

_HOME = {
    **dict.fromkeys(("PRESETS", "Noise", "schedule_factor"), "definition"),
    "EmbeddingNoise": "inject",
    "content_key": "randomness",
    "input_embedding": "embedding",
    "noise_generators": "randomness",
    "paired": "pairs",
    "perturb": "perturbation",
    **dict.fromkeys(("NoiseReport", "verify"), "verification"),
    **dict.fromkeys(("NoiseStatistics", "realised_noise"), "statistics"),
}

__all__ = [
    "PRESETS",
    "EmbeddingNoise",
    "Noise",
    "NoiseReport",
    "NoiseStatistics",
    "content_key",
    "input_embedding",
    "noise_generators",
    "paired",
    "perturb",
    "realised_noise",
    "schedule_factor",
    "verify",
]


def __getattr__(name: str) -> Any:
    """The public names, imported on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
