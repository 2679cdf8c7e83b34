"""The stage `generate`: answers to the evaluation instructions, as an AlpacaEval model_outputs.json."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean

from harness.context import Run, StageResult
from harness.data import EvalItem, load_eval_items
from harness.generate.answers import answer, position_limit
from harness.generate.checks import check_prompts, prompts_of
from harness.generate.ranks import rank_and_size
from harness.generate.settings import Completion
from harness.record import write_json

# Bits of the dtype used for answers; analysis says so below its tables.
BITS = "generate/bits"


def run(run: Run) -> StageResult:
    """Write model_outputs.json (one row per instruction) and completions.json (tokens and finish reason per row).

    With several processes only the first writes.
    """
    config, tokenizer = run.config, run.tokenizer()
    items = load_eval_items(config.eval_set)
    prompts = prompts_of(items, tokenizer, config.dataset.prompt, config.generate)
    check_prompts(items, prompts, config.generate, config.model.name, position_limit(run))
    rank, ranks = rank_and_size()
    started = time.monotonic()
    with run.progress("generate", -(-len(items) // ranks), "answer") as progress:

        def advance(tokens: int, rows: int) -> None:
            progress.update(rows, tokens_per_s=f"{ranks * tokens / (time.monotonic() - started):.0f}")

        answers = answer(run, prompts, tokenizer, advance)
    seconds, completions = time.monotonic() - started, answers.completions
    if rank:
        return StageResult()
    texts = [str(tokenizer.decode(done.token_ids, skip_special_tokens=True)).strip() for done in completions]
    details = [{"tokens": len(done.token_ids), "finish_reason": done.finish_reason} for done in completions]
    write_json(run.folder / "completions.json", details)
    write_json(run.folder / "model_outputs.json", output_rows(items, texts, run.run_id))
    labels = {"generate_dtype": answers.dtype, "generate_backend": completions[0].backend}
    metrics = _figures(texts, completions, seconds) | {BITS: _bits(answers.dtype)}
    return StageResult(metrics, labels=labels, files=["model_outputs.json", "completions.json"])


def _bits(dtype: str) -> float:
    return 32.0 if dtype == "float32" else 16.0


def output_rows(items: Sequence[EvalItem], texts: Sequence[str], generator: str) -> list[dict[str, str]]:
    """Rows of AlpacaEval's model_outputs.json."""
    return [
        {"dataset": item.family, "instruction": item.text, "output": text, "generator": generator}
        for item, text in zip(items, texts, strict=True)
    ]


def _figures(texts: Sequence[str], completions: Sequence[Completion], seconds: float) -> dict[str, float]:
    tokens = sum(len(done.token_ids) for done in completions)
    stopped = [done.finish_reason == "stop" for done in completions]
    return {
        "generate/characters": fmean(len(text) for text in texts),
        "generate/stopped_percent": 100.0 * fmean(stopped),
        "generate/empty_percent": 100.0 * fmean(not text for text in texts),
        "generate/tokens_per_second": tokens / max(seconds, 1e-9),
    }
