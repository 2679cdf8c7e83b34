"""The schema of `judge`; each kind of judge has its own keys."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.config.base import Count, CountOrZero, Fraction, Name, NonNegative, Positive, Section

JudgeKind = Literal["reference", "openai", "alpaca_eval", "local_lm", "similarity", "reward", "instructions", "python"]
_CALLS = {"concurrency", "retries", "timeout_s", "unparsed_retries"}
_LIMITS = {"max_calls", "max_usd", "usd_per_million_input", "usd_per_million_output"}
# kind -> required keys, optional keys
_JUDGE_KEYS: dict[JudgeKind, tuple[set[str], set[str]]] = {
    "reference": (set(), set()),
    "instructions": (set(), set()),
    "openai": (
        {"model", "base_url", "prompt", "parse", "order", "logprobs", *_CALLS},
        {
            "system",
            "labels",
            "score_scale",
            "temperature",
            "max_tokens",
            "extra_body",
            "api_key_env",
            "tag",
            "revision",
            *_LIMITS,
        },
    ),
    "alpaca_eval": ({"annotators_config", "python"}, {"base_url", "api_key_env", "max_calls"}),
    "local_lm": ({"model", "prompt", "labels", "order"}, {"revision"}),
    "similarity": ({"model"}, {"revision"}),
    "reward": ({"model"}, {"revision"}),
    "python": ({"target"}, {"model", "revision", "prompt", "labels", "order", "extra_body"}),
}


class JudgeConfig(Section):
    """Which judge compares the answers, with what settings, and against whose answers; each kind has its own keys."""

    name: Name
    kind: JudgeKind = "reference"
    baseline: str = Field("reference", description="reference | none_same_seed | a run_id | a file of outputs")
    store: str | None = Field(None, description="file of all verdicts; null: <output_dir>/verdicts.sqlite")
    difficulty: str | None = Field(None, description="AlpacaEval's instruction_difficulty.csv, for the LC win rate")
    gamed: str | None = Field(None, description="AlpacaEval's df_gamed.csv, for the LC win rate")
    max_unparsed: Fraction = Field(0.01, description="share of the pairs that may stay without a verdict")
    # The keys below belong to some kinds only (see _JUDGE_KEYS); elsewhere they must stay null.
    model: str | None = Field(
        None, description="an endpoint's model id; else a folder, a GGUF file, package:NAME/PATH or Hub id"
    )
    revision: str | None = Field(None, description="of a Hub model; of what an endpoint serves, for the record")
    prompt: str | None = Field(None, description="holds {instruction}, {output_1}, {output_2}; 1 is shown first")
    system: str | None = Field(None, description="a system message before the prompt")
    labels: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        None, description="the judge's names for the answer shown first and second"
    )
    parse: str | None = Field(
        None,
        description="regular expression that the verdict's whole place matches, its group 1 the label; with "
        "score_scale one that is searched in the reply, its groups 1 and 2 the scores of both answers",
    )
    score_scale: Positive | None = Field(
        None, description="replies hold scores: P(second is better) = sigmoid(score_scale (score_2 - score_1))"
    )
    tag: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")] | None = Field(
        None, description="where the verdict stands: inside <tag>...</tag>; null: the last line of the reply"
    )
    order: Literal["alpaca_eval", "both"] | None = Field(
        None, description="one order per row, chosen as AlpacaEval does, or both"
    )
    logprobs: bool | None = Field(None, description="ask for token probabilities; replies without them are parsed")
    temperature: NonNegative | None = Field(None, description="null: not sent")
    max_tokens: Count | None = Field(None, description="of a reply; null: not sent")
    extra_body: dict[str, Any] | None = Field(None, description="extra keys of the request body")
    base_url: str | None = Field(None, description="base URL of an OpenAI-compatible server, including /v1")
    api_key_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=60)] | None = Field(
        None, description="environment variable that holds the key; null: no key is sent"
    )
    concurrency: Count | None = Field(None, description="calls in flight")
    retries: CountOrZero | None = Field(
        None, description="of a call after 408, 409, 429, 5xx, a time-out or a broken connection"
    )
    timeout_s: Positive | None = Field(None, description="of one call, from the connection to the last byte")
    unparsed_retries: CountOrZero | None = Field(None, description="further calls after a reply that cannot be parsed")
    max_calls: Count | None = Field(None, description="calls that all runs of one store may make with this judge")
    max_usd: Positive | None = Field(None, description="USD that all runs of one store may spend with this judge")
    usd_per_million_input: NonNegative | None = Field(None, description="price of prompt tokens")
    usd_per_million_output: NonNegative | None = Field(None, description="price of reply tokens")
    target: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = Field(
        None, description="MODULE:CLASS of your own judge, built from this section (docs/how-to/add-a-judge.md)"
    )
    annotators_config: str | None = Field(None, description="an annotator by alpaca_eval's name, or its file")
    python: str | None = Field(None, description="interpreter of the environment with alpaca_eval")

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> JudgeConfig:
        required, optional = _JUDGE_KEYS[self.kind]
        common = {"name", "kind", "baseline", "store", "difficulty", "gamed", "max_unparsed"}
        given = {key for key, value in self if value is not None}
        for key in sorted(given - common - required - optional):
            raise ValueError(f"judge.{key} is not a key of judge.kind={self.kind}")
        for key in sorted(required - given):
            raise ValueError(f"judge.{key} is missing; judge.kind={self.kind} needs it")
        if (self.difficulty is None) != (self.gamed is None):
            raise ValueError("give both judge.difficulty and judge.gamed, or neither")
        return self

    @model_validator(mode="after")
    def _prompt_and_url(self) -> JudgeConfig:
        for name in ("{instruction}", "{output_1}", "{output_2}") if self.prompt is not None else ():
            if name not in (self.prompt or ""):
                raise ValueError(f"judge.prompt does not contain {name}")
        if self.labels is not None and self.labels[0] == self.labels[1]:
            raise ValueError(f"judge.labels={self.labels}: expected two different labels")
        groups = 1 if self.score_scale is None else 2
        if self.parse is not None and _groups(self.parse) != groups:
            number = "one group" if groups == 1 else "two groups (judge.score_scale is given)"
            raise ValueError(f"judge.parse={self.parse!r}: expected a regular expression with {number}")
        if self.kind == "openai" and (self.labels is None) == (self.score_scale is None):
            raise ValueError(
                "give judge.labels, or judge.score_scale for a judge that scores both answers, and not both"
            )
        if self.score_scale is not None and self.tag is not None:
            raise ValueError(f"judge.tag={self.tag}: only with judge.labels; scores are searched in the whole reply")
        if self.base_url is not None and not re.fullmatch(r"https?://[^@?#\s]+", self.base_url):
            raise ValueError("judge.base_url: expected http(s)://HOST[:PORT]/v1 without user, password or query")
        return self


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error:
        return -1
