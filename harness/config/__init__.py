"""The schema of one run: what Hydra composed becomes a frozen, checked object.

YAML composes; pydantic rejects unknown keys, wrong types, bad ranges and NaN, and `parse` turns the first complaint
into one line that names the key, its value and what is allowed.

One file for each group of conf/; `run` puts them together.
"""

from __future__ import annotations

from harness.config.base import Count, CountOrZero, Fraction, Name, NonNegative, Positive, Section
from harness.config.data import CleaningConfig, DatasetConfig, EvalSetConfig
from harness.config.generate import GenerateConfig
from harness.config.judge import JudgeConfig, JudgeKind
from harness.config.model import ModelConfig, TinyArchitecture
from harness.config.noise import (
    FreeLBConfig,
    MethodSection,
    NoiseConfig,
    R3FConfig,
    RDropConfig,
    SAMConfig,
    SMARTConfig,
    VATConfig,
)
from harness.config.probe import BenchmarksConfig, GradientConfig, ProbeConfig
from harness.config.run import STAGES, Config, ControlConfig, Stage, TrackingConfig, defaults, parse
from harness.config.train import LoRAConfig, TrainConfig

__all__ = [
    "STAGES",
    "BenchmarksConfig",
    "CleaningConfig",
    "Config",
    "ControlConfig",
    "Count",
    "CountOrZero",
    "DatasetConfig",
    "EvalSetConfig",
    "Fraction",
    "FreeLBConfig",
    "GenerateConfig",
    "GradientConfig",
    "JudgeConfig",
    "JudgeKind",
    "LoRAConfig",
    "MethodSection",
    "ModelConfig",
    "Name",
    "NoiseConfig",
    "NonNegative",
    "Positive",
    "ProbeConfig",
    "R3FConfig",
    "RDropConfig",
    "SAMConfig",
    "SMARTConfig",
    "Section",
    "Stage",
    "TinyArchitecture",
    "TrackingConfig",
    "TrainConfig",
    "VATConfig",
    "defaults",
    "parse",
]
