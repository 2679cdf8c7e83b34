"""The lm-evaluation-harness on the trained model, in this process: generalisation beyond the training tasks."""

from __future__ import annotations

import math
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harness.config import BenchmarksConfig
from harness.probe.checks import allow_code, task_manager
from harness.probe.summary import Figure

_NORMAL_95 = 1.959964
# The papers' four tasks by their names in the table, with the Open LLM Leaderboard's metrics.
_LEADERBOARD = {
    "arc": "arc_challenge/acc_norm",
    "hellaswag": "hellaswag/acc_norm",
    "mmlu": "mmlu/acc",
    "truthfulqa": "truthfulqa_mc2/acc",
}


def benchmark_figures(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: BenchmarksConfig, seed: int
) -> dict[str, Figure]:
    """Metrics `probe/benchmark/TASK/METRIC[/FILTER]` in the metric's own unit, with bounds 1.96 standard errors away.

    The papers' four tasks also appear as `lm_eval/arc` and so on, in percent. With apply_chat_template each question is
    asked in the tokenizer's chat template, with its few-shot examples in the same message. Tasks with data on the Hub
    fetch them; to avoid that, set HF_HOME or give your own task file.

    Raises:
        ValueError: a task executes the model's code and probe.benchmarks.run_code is false.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    allow_code(settings)
    was_training = model.training
    try:
        results = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=settings.batch_size),
            tasks=list(settings.tasks),
            num_fewshot=settings.num_fewshot,
            apply_chat_template=settings.apply_chat_template,
            limit=settings.limit,
            task_manager=task_manager(settings),
            confirm_run_unsafe_code=settings.run_code,
            log_samples=False,
            bootstrap_iters=1000,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    finally:
        model.train(was_training)
    assert results is not None  # None on ranks other than the first
    return results_figures(results)


def results_figures(results: dict[str, Any]) -> dict[str, Figure]:
    """Metrics from the result of `lm_eval.simple_evaluate`."""
    found: dict[str, Figure] = {}
    for task, metrics in results["results"].items():
        samples = results.get("n-samples", {}).get(task, {}).get("effective")
        for key, value in metrics.items():
            metric, _, filtered = key.partition(",")
            if metric.endswith("_stderr") or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            name = f"probe/benchmark/{task}/{metric}" + (f"/{filtered}" if filtered not in ("", "none") else "")
            found[name] = _figure(float(value), metrics.get(f"{metric}_stderr,{filtered}"), samples)
    for name, source in _LEADERBOARD.items():
        if f"probe/benchmark/{source}" in found:
            figure = found[f"probe/benchmark/{source}"]
            found[f"lm_eval/{name}"] = {key: value if key == "n" else 100 * value for key, value in figure.items()}
    return found


def _figure(mean: float, error: Any, samples: int | None) -> Figure:
    figure: Figure = {"mean": mean}
    if isinstance(error, int | float) and math.isfinite(error):
        figure |= {"low": mean - _NORMAL_95 * error, "high": mean + _NORMAL_95 * error}
    return figure if samples is None else {**figure, "n": samples}
