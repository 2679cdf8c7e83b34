"""The stage `generate`: answers to the evaluation instructions, as an AlpacaEval model_outputs.json."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean

from harness.config import GenerateConfig
from harness.context import Run, StageResult
from harness.data import EvalItem, load_eval_items
from harness.generate.backends import Completion, GenerationSettings, generate
from harness.generate.checks import check_prompts, prompts_of
from harness.models.place import located
from harness.record import write_json


def run(run: Run) -> StageResult:
    """Write model_outputs.json (one row per instruction) and completions.json (tokens and finish reason per row)."""
    config, tokenizer = run.config, run.tokenizer()
    items = load_eval_items(config.eval_set)
    prompts = prompts_of(items, tokenizer, config.dataset.prompt, config.generate)
    model = run.trained_model().eval()
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    check_prompts(items, prompts, config.generate, config.model.name, limit)
    run.folder.log(f"generate: {located(model)}")
    eos = tokenizer.eos_token_id
    started = time.monotonic()
    with run.progress("generate", len(items), "answer") as progress:

        def advance(tokens: int, rows: int) -> None:
            progress.update(rows, tokens_per_s=f"{tokens / (time.monotonic() - started):.0f}")

        completions = generate(
            model,
            prompts,
            _settings(config.generate),
            eos_token_id=eos,
            pad_token_id=eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            progress=advance,
        )
    seconds = time.monotonic() - started
    texts = [str(tokenizer.decode(done.token_ids, skip_special_tokens=True)).strip() for done in completions]
    details = [{"tokens": len(done.token_ids), "finish_reason": done.finish_reason} for done in completions]
    write_json(run.folder / "completions.json", details)
    write_json(run.folder / "model_outputs.json", output_rows(items, texts, run.run_id))
    return StageResult(_figures(texts, completions, seconds))


def output_rows(items: Sequence[EvalItem], texts: Sequence[str], generator: str) -> list[dict[str, str]]:
    """Rows of AlpacaEval's model_outputs.json."""
    return [
        {"dataset": item.family, "instruction": item.text, "output": text, "generator": generator}
        for item, text in zip(items, texts, strict=True)
    ]


def _settings(config: GenerateConfig) -> GenerationSettings:
    return GenerationSettings(
        max_new_tokens=config.max_new_tokens,
        max_length=config.max_length,
        repetition_penalty=config.repetition_penalty,
        batch_size=config.batch_size,
        backend=config.backend,
    )


def _figures(texts: Sequence[str], completions: Sequence[Completion], seconds: float) -> dict[str, float]:
    tokens = sum(len(done.token_ids) for done in completions)
    stopped = [done.finish_reason == "stop" for done in completions]
    return {
        "generate/characters": fmean(len(text) for text in texts),
        "generate/stopped_percent": 100.0 * fmean(stopped),
        "generate/empty_percent": 100.0 * fmean(not text for text in texts),
        "generate/tokens_per_second": tokens / max(seconds, 1e-9),
    }
