"""The schema of `dataset` and `eval_set`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.config.base import Count, CountOrZero, Name, Section

# The sets that the package generates, and the version of what it generates (harness/data/builtin): raised with every
# change of an item, so that runs on other items are other runs.
GENERATED = ("builtin", "builtin_text")
GENERATED_VERSION = 1

Prompt = Literal["alpaca", "vicuna_v1.1", "chatml", "chat_template", "none"]


class CleaningConfig(Section):
    """What happens to rows that should not be trained on; "error" stops before anything starts (docs/data.md)."""

    damaged: Literal["error", "drop"] = Field("error", description="rows with NUL characters or unpaired surrogates")
    tools: Literal["error", "drop"] = Field(
        "error", description="rows with tool definitions, tool calls or their results"
    )
    roles: Literal["error", "drop", "repair"] = Field(
        "error",
        description="conversations that do not alternate user, assistant, user, ...; repair: cut an answer at the "
        "start and a question at the end, then drop what still does not alternate",
    )
    system: Literal["keep", "drop"] = Field("keep", description="a conversation's own system message")
    empty: Literal["error", "drop", "keep"] = Field("error", description="rows whose instruction or answer has no text")
    duplicate_ids: Literal["error", "drop", "keep"] = Field("error", description="rows whose id was seen before")
    duplicates: Literal["error", "drop", "keep"] = Field("keep", description="rows whose full text was seen before")
    template: Literal["error", "drop"] = Field(
        "error",
        description="prompt=chat_template: rows that the template truncates, rejects or rewrites, or whose text "
        "the tokenizer would merge with what precedes it",
    )
    overlong: Literal["truncate", "drop", "error"] = Field(
        "truncate", description="rows of more than max_length tokens"
    )
    long_prompts: Literal["error", "drop"] = Field(
        "error", description="rows without a token of an answer within max_length"
    )
    heldout_repeats: Literal["drop", "keep"] = Field(
        "drop", description="held-out examples whose full text is also trained on; the others stay held out"
    )


class DatasetConfig(Section):
    """The training examples: `builtin` is generated, others are read from `path`, or else from the Hub."""

    name: Name
    path: str | None = Field(None, description="JSON, JSON lines or Parquet file; takes precedence over hub_id")
    hub_id: str | None = Field(None, description="data set on the Hugging Face Hub")
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = Field(None, description="commit on the Hub")
    hub_files: Annotated[tuple[str, ...], Field(strict=False)] = Field((), description="files of that commit to read")
    prompt: Prompt = Field("alpaca", description="prompt template of training and evaluation (harness/data/prompts.py)")
    turns: Literal["all", "first"] = Field(
        "all", description="all: train on every answer of a conversation; first: only on its first exchange"
    )
    clean: CleaningConfig = CleaningConfig.model_validate({})
    size: Count | None = Field(None, description="examples to train on; null: all")
    heldout: CountOrZero = Field(128, description="examples kept out of training for the held-out loss")
    seed: int = Field(
        42, description="seed of builtin items, and of the shuffle that precedes the subset and the held-out split"
    )
    max_length: Count = Field(
        512, description="tokens of an example, at most; clean.overlong says what happens to longer ones"
    )

    @model_validator(mode="before")
    @classmethod
    def _path_overrides_the_hub(cls, data: Any) -> Any:
        return _without_hub(data)

    @model_validator(mode="after")
    def _hub_is_pinned(self) -> DatasetConfig:
        _check_pin("dataset", self)
        return self


EvalFormat = Literal["alpaca_eval", "ifeval", "arena_hard", "wildbench", "mt_bench"]


class EvalSetConfig(Section):
    """The instructions to answer after training: `builtin` is generated, others are read from `path` or the Hub."""

    name: Name
    format: EvalFormat = Field(
        "alpaca_eval", description="format of the file's rows (docs/benchmarks.md); ifeval also covers IFBench"
    )
    path: str | None = Field(
        None,
        description="JSON, JSON lines or Parquet file of such rows, also package:NAME/FILE; takes precedence over "
        "hub_id",
    )
    hub_id: str | None = Field(None, description="data set on the Hugging Face Hub")
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = Field(None, description="commit on the Hub")
    hub_files: Annotated[tuple[str, ...], Field(strict=False)] = Field((), description="files of that commit to read")
    answers: str | None = Field(
        None, description="a baseline's answers in the benchmark's own layout: a file, or a folder of .jsonl files"
    )
    limit: Count | None = Field(None, description="use only the first N instructions of a file")
    heldout: CountOrZero = Field(0, description="builtin: instructions from the families trained on")
    unseen: CountOrZero = Field(0, description="builtin: instructions from families never trained on")
    seed: int = Field(0, description="builtin: seed of the instructions")

    @model_validator(mode="before")
    @classmethod
    def _path_overrides_the_hub(cls, data: Any) -> Any:
        return _without_hub(data)

    @model_validator(mode="after")
    def _hub_is_pinned(self) -> EvalSetConfig:
        _check_pin("eval_set", self)
        return self

    @model_validator(mode="after")
    def _answers_have_a_layout(self) -> EvalSetConfig:
        if self.answers is not None and self.format in ("alpaca_eval", "ifeval"):
            raise ValueError(
                f"answers={self.answers}: only with format arena_hard, wildbench or mt_bench; alpaca_eval's rows hold "
                "the baseline's answers, ifeval has none (judge.baseline names other ones)"
            )
        return self


def _without_hub(data: Any) -> Any:
    """A file given instead of the Hub is the same data set whatever Hub id stood beside it."""
    if isinstance(data, dict) and data.get("path") is not None:
        return {**data, "hub_id": None, "revision": None, "hub_files": ()}
    return data


def _check_pin(group: str, config: DatasetConfig | EvalSetConfig) -> None:
    if config.hub_id is not None and not (config.revision and config.hub_files):
        raise ValueError(f"{group}.hub_id={config.hub_id}: give {group}.revision (a commit) and {group}.hub_files too")
