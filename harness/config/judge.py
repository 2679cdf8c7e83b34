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
    kind: JudgeKind = Field("reference", description="type of judge (docs/judging.md)")
    baseline: str = Field(
        "reference", description="answers to compare with: reference | none_same_seed | a run_id | a file of outputs"
    )
    store: str | None = Field(None, description="file of all verdicts; null: <output_dir>/verdicts.sqlite")
    difficulty: str | None = Field(None, description="AlpacaEval's instruction_difficulty.csv, for the LC win rate")
    gamed: str | None = Field(None, description="AlpacaEval's df_gamed.csv, for the LC win rate")
    max_unparsed: Fraction = Field(0.01, description="fraction of the pairs that may remain without a verdict")
    # The keys below belong to some kinds only (see _JUDGE_KEYS); elsewhere they must stay null.
    model: str | None = Field(
        None,
        description="model name at an endpoint; for a local judge a folder, GGUF file, package:NAME/PATH or Hub id",
    )
    revision: str | None = Field(None, description="revision of a Hub model; for an endpoint only recorded")
    prompt: str | None = Field(
        None, description="template with {instruction}, {output_1} and {output_2}; output_1 is shown first"
    )
    system: str | None = Field(None, description="a system message before the prompt")
    labels: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        None, description="the judge's names for the answer shown first and second"
    )
    parse: str | None = Field(
        None,
        description="regular expression that must match the whole place of the verdict; group 1 is the label. "
        "With score_scale: searched for in the reply; groups 1 and 2 are the scores of the two "
        "answers",
    )
    score_scale: Positive | None = Field(
        None, description="replies contain scores: P(second is better) = sigmoid(score_scale (score_2 - score_1))"
    )
    tag: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")] | None = Field(
        None, description="the verdict is inside <tag>...</tag>; null: on the last line of the reply"
    )
    order: Literal["alpaca_eval", "both"] | None = Field(
        None, description="alpaca_eval: ask in one order per pair, chosen as AlpacaEval does; both: ask in both orders"
    )
    logprobs: bool | None = Field(
        None, description="ask for token probabilities; replies without them are parsed as text"
    )
    temperature: NonNegative | None = Field(None, description="sampling temperature; null: not sent")
    max_tokens: Count | None = Field(None, description="tokens of a reply, at most; null: not sent")
    extra_body: dict[str, Any] | None = Field(None, description="extra keys of the request body")
    base_url: str | None = Field(None, description="base URL of an OpenAI-compatible server, including /v1")
    api_key_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=60)] | None = Field(
        None, description="environment variable that holds the key; null: no key is sent"
    )
    concurrency: Count | None = Field(None, description="calls made at the same time")
    retries: CountOrZero | None = Field(
        None, description="retries of a call after HTTP 408, 409, 429 or 5xx, a timeout or a broken connection"
    )
    timeout_s: Positive | None = Field(None, description="seconds for one call, from connecting to the last byte")
    unparsed_retries: CountOrZero | None = Field(None, description="further calls after a reply that cannot be parsed")
    max_calls: Count | None = Field(None, description="calls to this judge by all runs that share a store, at most")
    max_usd: Positive | None = Field(
        None, description="USD spent on this judge by all runs that share a store, at most"
    )
    usd_per_million_input: NonNegative | None = Field(None, description="USD per million prompt tokens")
    usd_per_million_output: NonNegative | None = Field(None, description="USD per million reply tokens")
    target: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = Field(
        None, description="MODULE:CLASS of your own judge, built from this section (docs/how-to/add-a-judge.md)"
    )
    annotators_config: str | None = Field(None, description="name of one of alpaca_eval's annotators, or its file")
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
