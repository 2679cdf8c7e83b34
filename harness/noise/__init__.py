"""Embedding noise for instruction fine-tuning: NEFTune, SymNoise and their controls.

definition     Noise, its axes and presets           perturb      the noise as a pure function
schedule       the course of alpha                   randomness   generators keyed by step and document
distributions  uniform, gaussian, random signs       inject       attach to a model, detach, never in evaluation
tokens         documents and padding of a batch      place        where in the training a forward pass stands
batch          read and double a model call          model        its input embedding, and when it trains
statistics     the noise that really arrived         callback     for transformers' Trainer (not imported here)
stopwatch      the time that the noise takes

Imports torch alone; `harness.noise.callback` is the one file that needs transformers.
"""

from harness.noise.definition import PRESETS, Noise, schedule_factor
from harness.noise.embedding import input_embedding
from harness.noise.inject import EmbeddingNoise
from harness.noise.perturb import perturb
from harness.noise.randomness import noise_generators
from harness.noise.statistics import NoiseStatistics, realised_noise

__all__ = [
    "PRESETS",
    "EmbeddingNoise",
    "Noise",
    "NoiseStatistics",
    "input_embedding",
    "noise_generators",
    "perturb",
    "realised_noise",
    "schedule_factor",
]
