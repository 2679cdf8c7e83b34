"""The schema of `noise`: its axes, and the other smoothing methods, each with a section of its own."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, get_args

from pydantic import Field, field_validator, model_validator

from harness.config.base import Count, CountOrZero, Name, NonNegative, Positive, Section
from harness.config.budget import Cost
from harness.noise.definition import Distribution, Length, Pair, Scale, Schedule, Where, is_own

# The axes that a method may use; "distribution" has its own rule.
_AXES = frozenset({"scale", "length", "where", "special_tokens", "schedule", "rate"})
_PAIR = frozenset({"pair"})


class MethodSection(Section):
    """The settings of one method, and how it uses the noise. Its code is `harness.train.methods.<name>`.

    Attributes:
        axes: axes of the noise that the method uses, besides the distribution.
        distributions: distributions that it works with.
        rule: the same, in words.
    """

    axes: ClassVar[frozenset[str]] = _AXES
    distributions: ClassVar[tuple[str, ...]] = get_args(Distribution)
    rule: ClassVar[str] = "any distribution"

    @property
    def cost(self) -> Cost:
        """Passes of one document in one optimiser step."""
        return Cost(2, 2)


class _Adversarial(MethodSection):
    """A method that draws only the starting point and finds the perturbation itself."""

    axes: ClassVar = frozenset({"schedule"})
    distributions: ClassVar = ("uniform", "gaussian", "rademacher")
    rule: ClassVar = "uniform, gaussian or rademacher"


class R3FConfig(MethodSection):
    """`harness.train.methods.r3f`."""

    distributions: ClassVar = ("uniform", "gaussian", "rademacher", "dropout")
    rule: ClassVar = "a noise"

    weight: NonNegative = Field(
        description="lambda: weight of the symmetrised KL divergence between clean and noised predictions"
    )


class RDropConfig(MethodSection):
    """`harness.train.methods.rdrop`."""

    weight: NonNegative = Field(
        description="the paper's alpha: weight of the mean of the two KL divergences between two draws"
    )


class FreeLBConfig(_Adversarial):
    """`harness.train.methods.freelb`."""

    steps: Count = Field(description="K: ascent steps, each one forward and one backward pass")
    step_size: NonNegative = Field(description="size of an ascent step, as a fraction of alpha")

    @property
    def cost(self) -> Cost:
        return Cost(self.steps, self.steps)


class VATConfig(_Adversarial):
    """`harness.train.methods.vat`."""

    weight: NonNegative = Field(description="weight of the KL divergence to the adversarial predictions")
    steps: Count = Field(description="power iterations")
    probe: Positive = Field(
        description="xi: norm of the perturbation used to find the direction, as a fraction of alpha"
    )

    @property
    def cost(self) -> Cost:
        return Cost(2 + self.steps, 2, self.steps)


class SMARTConfig(_Adversarial):
    """`harness.train.methods.smart`."""

    weight: NonNegative = Field(
        description="lambda_s: weight of the symmetrised KL divergence to the adversarial predictions"
    )
    steps: Count = Field(description="T: ascent steps")
    step_size: NonNegative = Field(
        description="eta: size of an ascent step, as a fraction of epsilon = alpha / sqrt(L d)"
    )
    start: Positive = Field(description="sigma: standard deviation of the starting point, as a fraction of epsilon")

    @property
    def cost(self) -> Cost:
        return Cost(2 + self.steps, 2, self.steps)


class SAMConfig(MethodSection):
    """`harness.train.methods.sam`."""

    axes: ClassVar = frozenset()
    distributions: ClassVar = ("none",)
    rule: ClassVar = "none"

    rho: NonNegative = Field(description="rho: L2 norm of the ascent step in weight space")


class OwnConfig(MethodSection):
    """`harness.train.methods.own`: a user's own method, in a module on Python's path."""

    target: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = Field(
        description="MODULE:CLASS, a subclass of harness.train.methods.Method"
    )
    settings: dict[str, Any] = Field({}, description="passed to the class as self.settings")
    forwards: Count = Field(
        2, description="forward passes per document and step; budgets and FLOPs are computed from it"
    )
    backwards: Count = Field(2, description="backward passes that reach the weights")
    input_backwards: CountOrZero = Field(0, description="backward passes that stop at the embeddings")

    @property
    def cost(self) -> Cost:
        return Cost(self.forwards, self.backwards, self.input_backwards)


class NoiseConfig(Section):
    """The axes of `harness.noise.Noise` except alpha, which is swept separately, and the method that uses them.

    alpha is the strength in every method but sam and embedding dropout: the norm alpha of a document's noise
    or adversarial perturbation, in the papers' units alpha / sqrt(L d) per entry. See docs/regularisers.md.
    """

    name: Name
    method: str = Field("noise", description="noise: train on noised embeddings; others: see docs/regularisers.md")
    distribution: str = Field("uniform", description="distribution of the noise entries; MODULE:FUNCTION for your own")
    scale: Scale = Field(
        "raw",
        description="raw: as drawn; matched: with the variance of uniform noise; relative: matched, times the "
        "mean norm of the document's token embeddings",
    )
    pair: Pair = Field(
        "none", description="antithetic: train on X + e and X - e (SymNoise); independent: on two independent draws"
    )
    length: Length = Field(
        "true",
        description="L in alpha / sqrt(L d): tokens of the document (true), of the padded row (padded), or of all "
        "documents in a packed row (row)",
    )
    where: Where = Field("all", description="tokens to noise: all, only the prompt, or only the response")
    special_tokens: bool = Field(True, description="also noise special tokens")
    schedule: Schedule = Field("constant", description="schedule of alpha over training")
    rate: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="dropout probability; only for distribution=dropout"
    )
    # A method's section may be given with that method only.
    r3f: R3FConfig | None = None
    rdrop: RDropConfig | None = None
    freelb: FreeLBConfig | None = None
    vat: VATConfig | None = None
    smart: SMARTConfig | None = None
    sam: SAMConfig | None = None
    own: OwnConfig | None = None

    @field_validator("length", mode="before")
    @classmethod
    def _the_word_true(cls, value: Any) -> Any:
        """Hydra reads `noise.length=true` as a boolean; the word is meant."""
        return "true" if value is True else value

    @field_validator("method")
    @classmethod
    def _there_is_such_a_method(cls, value: str) -> str:
        names = ("noise", *cls.methods())
        if value not in names:
            raise ValueError(f"choose from {', '.join(names)}")
        return value

    @field_validator("distribution")
    @classmethod
    def _there_is_such_a_distribution(cls, value: str) -> str:
        if value not in get_args(Distribution) and not is_own(value):
            raise ValueError(f"choose from {', '.join(get_args(Distribution))}, or give your own as MODULE:FUNCTION")
        return value

    @classmethod
    def methods(cls) -> dict[str, type[MethodSection]]:
        """The methods besides "noise": the sections declared above, by name."""
        declared = {name: get_args(info.annotation) for name, info in cls.model_fields.items()}
        return {
            name: kinds[0]
            for name, kinds in declared.items()
            if kinds and isinstance(kinds[0], type) and issubclass(kinds[0], MethodSection)
        }

    @property
    def settings(self) -> Any:
        """The method's own section; None for "noise"."""
        return None if self.method == "noise" else getattr(self, self.method)

    @property
    def cost(self) -> Cost:
        """Passes of one document in one optimiser step."""
        if self.method != "noise":
            cost: Cost = self.settings.cost
            return cost
        return Cost(1, 1) if self.pair == "none" else Cost(2, 2)

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> NoiseConfig:
        for name in self.methods():
            if (getattr(self, name) is not None) != (name == self.method):
                problem = "is missing" if name == self.method else "has no effect"
                raise ValueError(f"noise.{name} {problem} with noise.method={self.method}")
        unused = (_AXES | _PAIR) - (self.settings.axes if self.settings else _AXES | _PAIR)
        unused |= {"scale", "length"} if self.distribution == "dropout" else {"rate"}
        for key in sorted(unused):
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                found = f"noise.method={self.method}, noise.distribution={self.distribution}"
                raise ValueError(f"noise.{key}={value} has no effect with {found}")
        kind = "gaussian" if is_own(self.distribution) else self.distribution  # an additive noise like any other
        if self.settings and kind not in self.settings.distributions:
            rule = self.settings.rule
            raise ValueError(f"noise.distribution={self.distribution}: noise.method={self.method} needs {rule}")
        return self
