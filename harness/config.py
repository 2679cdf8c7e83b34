"""The schema of one run: what Hydra composed becomes a frozen, checked object.

YAML composes; pydantic rejects unknown keys, wrong types, bad ranges and NaN, and `parse` turns the first complaint
into one line that names the key, its value and what is allowed.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.budget import Budget, Cost, check_divisible

STAGES = ("train", "generate", "judge")
Stage = Literal["train", "generate", "judge"]

JudgeKind = Literal["reference", "openai", "alpaca_eval", "local_lm", "similarity", "reward"]
_CALLS = {"concurrency", "retries", "timeout_s", "unparsed_retries"}
_LIMITS = {"max_calls", "max_usd", "usd_per_million_input", "usd_per_million_output"}
# kind -> keys it needs, keys it may have
_JUDGE_KEYS: dict[JudgeKind, tuple[set[str], set[str]]] = {
    "reference": (set(), set()),
    "openai": (
        {"model", "base_url", "prompt", "labels", "parse", "order", "logprobs", *_CALLS},
        {"temperature", "max_tokens", "extra_body", "api_key_env", *_LIMITS},
    ),
    "alpaca_eval": ({"annotators_config", "python"}, {"base_url", "api_key_env", "max_calls"}),
    "local_lm": ({"model", "prompt", "labels", "order"}, {"revision"}),
    "similarity": ({"model"}, {"revision"}),
    "reward": ({"model"}, {"revision"}),
}

# A name becomes part of folder and file names, so it can hold no separators and no "..".
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*([.][A-Za-z0-9_-]+)*$", max_length=60)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of every section: unknown keys, implicit conversions, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TinyArchitecture(Section):
    """Size of a Llama that is built from this config with random weights."""

    hidden_size: Count
    layers: Count
    heads: Count
    intermediate_size: Count
    max_positions: Count = 1024

    @model_validator(mode="after")
    def _heads_divide(self) -> TinyArchitecture:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size={self.hidden_size} must be a multiple of 2 x heads={self.heads}")
        return self


class ModelConfig(Section):
    """Where the model comes from: exactly one of `architecture` (random weights), `path` (folder, GGUF) or `hub_id`."""

    name: Name
    architecture: TinyArchitecture | None = None
    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool = False


class DatasetConfig(Section):
    """The training examples; `builtin` is generated, anything else is read from `path`."""

    name: Name
    path: str | None = None
    prompt: Literal["alpaca"] = "alpaca"
    size: Count | None = Field(None, description="examples to train on; null: all")
    heldout: CountOrZero = Field(128, description="examples kept out of training for the held-out loss")
    seed: int = Field(42, description="seed of the shuffle before subset and held-out split")
    max_length: Count = Field(512, description="tokens; longer examples are cut there")


class EvalSetConfig(Section):
    """The instructions to answer after training."""

    name: Name
    path: str | None = Field(
        None, description="JSON of AlpacaEval rows: instruction, dataset and output (the reference)"
    )
    limit: Count | None = Field(None, description="keep the first N instructions of a file")
    heldout: CountOrZero = Field(0, description="builtin: items of the training families")
    unseen: CountOrZero = Field(0, description="builtin: items of families never trained on")
    seed: int = 0


class R3FConfig(Section):
    """`harness.regularisers.r3f`."""

    weight: NonNegative = Field(description="lambda, of the symmetrised KL between clean and noised predictions")


class RDropConfig(Section):
    """`harness.regularisers.rdrop`."""

    weight: NonNegative = Field(description="the paper's alpha, of the mean of both KL between two draws")


class FreeLBConfig(Section):
    """`harness.regularisers.freelb`."""

    steps: Count = Field(description="K, forward and backward passes of each document")
    step_size: NonNegative = Field(description="of one ascent step, as a share of alpha")


class VATConfig(Section):
    """`harness.regularisers.vat`."""

    weight: NonNegative = Field(description="of the KL to the adversarial predictions")
    steps: Count = Field(description="power iterations")
    probe: Positive = Field(description="xi, the norm at which the direction is looked for, as a share of alpha")


class SMARTConfig(Section):
    """`harness.regularisers.smart`."""

    weight: NonNegative = Field(description="lambda_s, of the symmetrised KL to the adversarial predictions")
    steps: Count = Field(description="T, ascent steps")
    step_size: NonNegative = Field(description="eta, as a share of epsilon = alpha / sqrt(L d)")
    start: Positive = Field(description="sigma, standard deviation of the start, as a share of epsilon")


class SAMConfig(Section):
    """`harness.regularisers.sam`."""

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


class TrainConfig(Section):
    """The optimisation recipe. Sizes are in examples and tokens, never in devices."""

    name: Name
    epochs: Positive | None = None
    max_steps: Count | None = Field(None, description="optimiser steps; overrides epochs")
    batch_size: Count = Field(128, description="examples per optimiser step, over all devices and micro-batches")
    budget: Budget = Field(
        "equal_steps",
        description="what methods that forward an example more than once share with the others: "
        "the steps, the forwarded rows, or the examples at equal rows per step (harness/budget.py)",
    )
    micro_batch_tokens: Count = Field(2048, description="tokens per forward pass, before a pair doubles them")
    layout: Literal["auto", "packed", "padded"] = "auto"
    lr: Positive = 5e-5
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = 0.03
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    loss: Literal["token_mean", "micro_batch_mean"] = "token_mean"
    pair_mode: Literal["concat", "sequential"] = "concat"
    log_every: Count = Field(10, description="steps between logged rows")
    checkpoint_every: CountOrZero = Field(100, description="steps between resumable checkpoints; 0: none")
    keep_model: bool = Field(True, description="keep the final weights after the last stage")

    @model_validator(mode="after")
    def _length_given(self) -> TrainConfig:
        if self.epochs is None and self.max_steps is None:
            raise ValueError("give epochs or max_steps")
        return self


class GenerateConfig(Section):
    """Decoding is greedy; the penalty is the papers' 1.2."""

    name: Name
    max_new_tokens: Count = 256
    max_length: Count = Field(2048, description="tokens of prompt and answer together (the papers' limit)")
    repetition_penalty: Positive = 1.2
    batch_size: Count = 32
    backend: Literal["auto", "engine", "transformers"] = "auto"


class JudgeConfig(Section):
    """Who compares two answers, with what settings, against whose answers; each kind has keys of its own."""

    name: Name
    kind: JudgeKind = "reference"
    baseline: str = Field("reference", description="reference | none_same_seed | a run_id | a file of outputs")
    store: str | None = Field(None, description="file of all verdicts; null: <output_dir>/verdicts.sqlite")
    difficulty: str | None = Field(None, description="AlpacaEval's instruction_difficulty.csv, for the LC win rate")
    gamed: str | None = Field(None, description="AlpacaEval's df_gamed.csv, for the LC win rate")
    # The keys below belong to some kinds only (see _JUDGE_KEYS); elsewhere they must stay null.
    model: str | None = Field(None, description="an endpoint's model id; else a folder, package:NAME/FOLDER or Hub id")
    revision: str | None = Field(None, description="of a Hub model")
    prompt: str | None = Field(None, description="holds {instruction}, {output_1}, {output_2}; 1 is shown first")
    labels: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        None, description="the judge's names for the answer shown first and second"
    )
    parse: str | None = Field(None, description="regular expression whose group 1 is the label in a reply")
    order: Literal["alpaca_eval", "both"] | None = Field(None, description="one order per row by a rule, or both")
    logprobs: bool | None = Field(None, description="ask for token probabilities; replies without them are parsed")
    temperature: NonNegative | None = Field(None, description="null: not sent")
    max_tokens: Count | None = Field(None, description="of a reply; null: not sent")
    extra_body: dict[str, Any] | None = Field(None, description="further keys of the request, as the server wants them")
    base_url: str | None = Field(None, description="of an OpenAI-compatible server, up to and with /v1")
    api_key_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=60)] | None = Field(
        None, description="name of the environment variable that holds the key; null: no key is sent"
    )
    concurrency: Count | None = Field(None, description="calls in flight")
    retries: CountOrZero | None = Field(
        None, description="of a call on 408, 409, 429, 5xx, time-out, broken connection"
    )
    timeout_s: Positive | None = Field(None, description="of one call")
    unparsed_retries: CountOrZero | None = Field(None, description="new calls for a reply that cannot be parsed")
    max_calls: Count | None = Field(None, description="calls that all runs of one store may make with this judge")
    max_usd: Positive | None = Field(None, description="USD that all runs of one store may spend with this judge")
    usd_per_million_input: NonNegative | None = Field(None, description="price of prompt tokens")
    usd_per_million_output: NonNegative | None = Field(None, description="price of reply tokens")
    annotators_config: str | None = Field(None, description="alpaca_eval's name or file of an annotator")
    python: str | None = Field(None, description="interpreter of the environment that holds alpaca_eval")

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> JudgeConfig:
        required, optional = _JUDGE_KEYS[self.kind]
        common = {"name", "kind", "baseline", "store", "difficulty", "gamed"}
        given = {key for key, value in self if value is not None}
        for key in sorted(given - common - required - optional):
            raise ValueError(f"judge.{key} is no key of judge.kind={self.kind}")
        for key in sorted(required - given):
            raise ValueError(f"judge.{key} is missing; judge.kind={self.kind} needs it")
        if (self.difficulty is None) != (self.gamed is None):
            raise ValueError("give both judge.difficulty and judge.gamed, or neither")
        return self

    @model_validator(mode="after")
    def _prompt_and_url(self) -> JudgeConfig:
        for name in ("{instruction}", "{output_1}", "{output_2}") if self.prompt is not None else ():
            if name not in (self.prompt or ""):
                raise ValueError(f"judge.prompt does not hold {name}")
        if self.labels is not None and self.labels[0] == self.labels[1]:
            raise ValueError(f"judge.labels={self.labels}: expected two different labels")
        if self.parse is not None and _groups(self.parse) != 1:
            raise ValueError(f"judge.parse={self.parse!r}: expected a regular expression with one group")
        if self.base_url is not None and not re.fullmatch(r"https?://[^@?#\s]+", self.base_url):
            raise ValueError("judge.base_url: expected http(s)://HOST[:PORT]/v1 without user, password or query")
        return self


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error:
        return -1


class TrackingConfig(Section):
    """Weights & Biases; `group` is filled in by the sweep."""

    name: Name
    mode: Literal["offline", "online", "disabled"]
    project: Name = "noise-harness"
    entity: str | None = None
    group: str | None = None


class ControlConfig(Section):
    """Switches of the command itself, not of the run."""

    dry_run: bool = Field(False, description="print the plan and stop")
    run_id: str | None = Field(None, description="set by the sweep: the identity that was planned and checked")
    position: str | None = Field(None, description="set by the sweep: place in the queue")


class Config(Section):
    """One run, complete."""

    model: ModelConfig
    dataset: DatasetConfig
    eval_set: EvalSetConfig
    noise: NoiseConfig
    train: TrainConfig
    generate: GenerateConfig
    judge: JudgeConfig
    tracking: TrackingConfig
    harness: ControlConfig
    alpha: Annotated[float, Field(ge=0, le=10_000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    stages: Annotated[list[Stage], Field(min_length=1)]
    output_dir: str
    experiment: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_what_nothing_uses(cls, data: Any) -> Any:
        """Drop alpha without noise and the budget of a single pass, so that noise=none in a grid of both is one run."""
        noise, train = (data.get("noise"), data.get("train")) if isinstance(data, dict) else (None, None)
        if not isinstance(noise, dict):
            return data
        dropped: dict[str, Any] = {}
        if noise.get("distribution") in ("none", "dropout") and isinstance(data.get("alpha"), int | float):
            dropped["alpha"] = 0.0
        once = noise.get("method", "noise") == "noise" and noise.get("pair", "none") == "none"
        if once and isinstance(train, dict) and train.get("budget") in get_args(Budget):
            dropped["train"] = {**train, "budget": "equal_steps"}
        return {**data, **dropped}

    @model_validator(mode="after")
    def _budget_divides(self) -> Config:
        check_divisible(self.train.batch_size, self.noise.cost.forwards, self.train.budget)
        return self


def parse(composed: dict[str, Any]) -> Config:
    """Check a composed config.

    Raises:
        ValueError: one line per violated rule, each naming key, value and what is allowed.
    """
    try:
        return Config.model_validate(composed)
    except ValidationError as error:
        raise ValueError("; ".join(_one_line(item) for item in error.errors())) from None


def defaults(section: type[BaseModel] = Config) -> dict[str, Any]:
    """Every key of the schema with its default; "???" (OmegaConf's mandatory value) where there is none."""
    found: dict[str, Any] = {}
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found[name] = defaults(info.annotation)
        else:
            found[name] = "???" if info.is_required() else info.default
    return found


def _one_line(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if item["type"] == "extra_forbidden":
        return f"{key}: there is no such key"
    if item["type"] == "missing":
        return f"{key}: is missing"
    if isinstance(item["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key}={item['input']!r}: {message}"
