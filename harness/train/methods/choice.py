"""From the config's noise section to the method that trains with it."""

from __future__ import annotations

from importlib import import_module

from accelerate import Accelerator
from torch import nn

from harness.config import NoiseConfig
from harness.noise import EmbeddingNoise
from harness.train.methods.base import Method

# Each in a file of its own name.
_CLASSES = {
    "noise": "noised.Noised",
    "r3f": "r3f.R3F",
    "rdrop": "rdrop.RDrop",
    "freelb": "freelb.FreeLB",
    "vat": "vat.VAT",
    "smart": "smart.SMART",
    "sam": "sam.SAM",
}


def method_of(config: NoiseConfig, accelerator: Accelerator, objective: nn.Module, noise: EmbeddingNoise) -> Method:
    """The method of a run."""
    module, name = _CLASSES[config.method].split(".")
    found: type[Method] = getattr(import_module(f"harness.train.methods.{module}"), name)
    return found(accelerator, objective, noise, config.settings)
