"""The schema of `noise`: its axes, and the other methods of smoothing with settings of their own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from harness.config.base import Count, Name, NonNegative, Positive, Section
from harness.config.budget import Cost


class R3FConfig(Section):
    """`harness.train.methods.r3f`."""

    weight: NonNegative = Field(description="lambda, of the symmetrised KL between clean and noised predictions")


class RDropConfig(Section):
    """`harness.train.methods.rdrop`."""

    weight: NonNegative = Field(description="the paper's alpha, of the mean of both KL between two draws")


class FreeLBConfig(Section):
    """`harness.train.methods.freelb`."""

    steps: Count = Field(description="K, forward and backward passes of each document")
    step_size: NonNegative = Field(description="of one ascent step, as a share of alpha")


class VATConfig(Section):
    """`harness.train.methods.vat`."""

    weight: NonNegative = Field(description="of the KL to the adversarial predictions")
    steps: Count = Field(description="power iterations")
    probe: Positive = Field(description="xi, the norm at which the direction is looked for, as a share of alpha")


class SMARTConfig(Section):
    """`harness.train.methods.smart`."""

    weight: NonNegative = Field(description="lambda_s, of the symmetrised KL to the adversarial predictions")
    steps: Count = Field(description="T, ascent steps")
    step_size: NonNegative = Field(description="eta, as a share of epsilon = alpha / sqrt(L d)")
    start: Positive = Field(description="sigma, standard deviation of the start, as a share of epsilon")


class SAMConfig(Section):
    """`harness.train.methods.sam`."""

    rho: NonNegative = Field(description="norm of the step up, in weights")


Method = Literal["noise", "r3f", "rdrop", "freelb", "vat", "smart", "sam"]

_AXES = {"distribution", "scale", "length", "where", "special_tokens", "schedule", "rate"}
# The axes that each method uses. Adversarial ones draw where to start and go on by themselves.
_METHOD_AXES: dict[str, set[str]] = {
    "noise": _AXES | {"pair"},
    "r3f": _AXES,
    "rdrop": _AXES,
    "freelb": {"distribution", "schedule"},
    "vat": {"distribution", "schedule"},
    "smart": {"distribution", "schedule"},
    "sam": set(),
}
# The only layout of batches in which a length is what its name says.
LAYOUT_OF_LENGTH = {"padded": "padded", "row": "packed"}

_ADVERSARIAL = ("freelb", "vat", "smart")


class NoiseConfig(Section):
    """The axes of `harness.noise.Noise` except alpha, which is swept on its own; and what else is done with them.

    alpha is the strength in every method but sam and embedding dropout: the norm alpha of a document's noise
    or adversarial perturbation, in the papers' units alpha / sqrt(L d) per entry. See docs/regularisers.md.
    """

    name: Name
    method: Method = Field("noise", description="noise: train on noised embeddings; others: see docs/regularisers.md")
    distribution: Literal["uniform", "gaussian", "rademacher", "dropout", "none"] = "uniform"
    scale: Literal["raw", "matched"] = "raw"
    pair: Literal["none", "antithetic", "independent"] = "none"
    length: Literal["true", "padded", "row"] = "true"
    where: Literal["all", "prompt", "response"] = "all"
    special_tokens: bool = Field(True, description="noise special tokens too")
    schedule: Literal["constant", "linear", "cosine", "warmup"] = Field(
        "constant", description="of alpha over training"
    )
    rate: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of distribution=dropout only")
    # A method's own section is given with it and with no other.
    r3f: R3FConfig | None = None
    rdrop: RDropConfig | None = None
    freelb: FreeLBConfig | None = None
    vat: VATConfig | None = None
    smart: SMARTConfig | None = None
    sam: SAMConfig | None = None

    @field_validator("length", mode="before")
    @classmethod
    def _the_word_true(cls, value: Any) -> Any:
        """`noise.length=true` on the command line is read as a truth value; the word is meant."""
        return "true" if value is True else value

    @property
    def settings(self) -> Any:
        """The method's own section; None for "noise"."""
        return None if self.method == "noise" else getattr(self, self.method)

    @property
    def cost(self) -> Cost:
        """Passes of one document in one optimiser step."""
        if self.method == "noise":
            halves = 1 if self.pair == "none" else 2
            return Cost(halves, halves)
        if self.method == "freelb":
            return Cost(self.settings.steps, self.settings.steps)
        searching = self.settings.steps if self.method in ("vat", "smart") else 0
        return Cost(2 + searching, 2, searching)

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> NoiseConfig:
        for name in _METHOD_AXES:
            if name != "noise" and (getattr(self, name) is not None) != (name == self.method):
                problem = "is missing" if name == self.method else "has no effect"
                raise ValueError(f"noise.{name} {problem} with noise.method={self.method}")
        unused = (_AXES | {"pair"}) - _METHOD_AXES[self.method] - {"distribution"}
        unused |= {"scale", "length"} if self.distribution == "dropout" else {"rate"}
        for key in sorted(unused):
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                found = f"noise.method={self.method}, noise.distribution={self.distribution}"
                raise ValueError(f"noise.{key}={value} has no effect with {found}")
        return self

    @model_validator(mode="after")
    def _distribution_of_the_method(self) -> NoiseConfig:
        wrong = {
            "r3f": self.distribution == "none",
            "sam": self.distribution != "none",
        }.get(self.method, self.method in _ADVERSARIAL and self.distribution in ("none", "dropout"))
        if wrong:
            rule = {"r3f": "a noise", "sam": "none"}.get(self.method, "uniform, gaussian or rademacher")
            raise ValueError(f"noise.distribution={self.distribution}: noise.method={self.method} needs {rule}")
        return self
