"""Between the plan and the first run: what can be checked with tokenizers and small downloads at hand.

Whatever is refused here would fail a run after its training otherwise.
"""

from __future__ import annotations

from functools import cache

from harness.config import (
    BenchmarksConfig,
    Config,
    DatasetConfig,
    EvalSetConfig,
    GenerateConfig,
    JudgeConfig,
    ModelConfig,
)
from harness.data import load_eval_items
from harness.judge.ask import check_budgets
from harness.judge.judges.registry import check_judge_model
from harness.pipeline.plan import Plan
from harness.probe.checks import fetch_benchmarks


def prepare(plan: Plan) -> list[str]:
    """Tokenise what the plan's runs will train on and answer, and check judges against what they will be given.

    Returns:
        What was read, cleaned and tokenised, a line each; the runs find it in the cache.

    Raises:
        ValueError: an example or a prompt too long for its limits, a tokenizer that cannot express the prompt, a
            baseline or table without some instruction, a judge that cannot be had or whose limits are too small,
            a benchmark without its data.
    """
    lines: dict[str, None] = {}
    judges: list[JudgeConfig] = []
    benchmarks: list[BenchmarksConfig] = []
    for number, job in enumerate(plan.to_run):
        config, pending = job.config, set(job.pending)
        if "train" in pending:
            lines |= dict.fromkeys(_documents(config.dataset, config.model))
        if {"train", "generate"} <= pending:
            lines |= dict.fromkeys(_prompts(config.dataset, config.model, config.eval_set, config.generate))
        if {"train", "probe"} <= pending:
            benchmarks += [config.probe.benchmarks] if config.probe.benchmarks not in benchmarks else []
        if "judge" in pending:
            _check_judged(config, [done.config for done in plan.to_run[: number + 1]])
            judges += [config.judge] if config.judge not in judges else []
    for tasks in benchmarks:
        fetch_benchmarks(tasks)
    for judge in judges:
        check_judge_model(judge)
    check_budgets([job.config for job in plan.to_run if {"generate", "judge"} <= set(job.pending)])
    return list(lines)


@cache
def _documents(dataset: DatasetConfig, model: ModelConfig) -> list[str]:
    from harness.data.documents import load_documents
    from harness.models.tokenizer import positions

    data, limit = load_documents(dataset, model), positions(model)
    longest = max(len(document) for document in (*data.train, *data.heldout))
    if limit is not None and longest > limit:
        raise ValueError(
            f"dataset.max_length={dataset.max_length}: the longest example has {longest} tokens, but "
            f"model={model.name} has positions for {limit}; set dataset.max_length={limit}"
        )
    return [f"data: {line}" for line in (*data.notes, f"{data.origin}, {data.entry}")]


@cache
def _prompts(
    dataset: DatasetConfig, model: ModelConfig, eval_set: EvalSetConfig, settings: GenerateConfig
) -> list[str]:
    from harness.generate.checks import check_prompts, prompts_of
    from harness.models.tokenizer import load_tokenizer, positions

    items = load_eval_items(eval_set)
    prompts = prompts_of(items, load_tokenizer(model), dataset.prompt, settings)
    note = check_prompts(items, prompts, settings, model.name, positions(model))
    return [f"generate: {note}"] if note else []


def _check_judged(config: Config, done_by_then: list[Config]) -> None:
    from harness.judge.baseline import check_baseline

    items = load_eval_items(config.eval_set)
    check_baseline(config, items, done_by_then)
    if config.judge.difficulty is not None:
        from harness.judge.results import check_length_control

        check_length_control(config.judge, [item.text for item in items])
