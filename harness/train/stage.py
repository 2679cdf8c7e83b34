"""The stage `train`: documents in, a fine-tuned model and metrics.jsonl out."""

from __future__ import annotations

import math
from contextlib import nullcontext

from transformers import PreTrainedModel

from harness.config import Config
from harness.context import Run, StageResult
from harness.data.batching import Document, Layout
from harness.data.documents import load_documents
from harness.data.saved_template import with_template
from harness.metrics.stability import stability
from harness.models.adapters import for_inference, is_adapted, make_trainable
from harness.models.attention import packed_attention, supports_packing
from harness.models.decoding import generation_config
from harness.models.load import load_model
from harness.models.onednn import fast_linear
from harness.models.save import save_model
from harness.models.tokenizer import load_tokenizer
from harness.record import STEPS
from harness.system.memory import retain_freed_memory
from harness.train.loop import Observer, fit, mean_loss
from harness.train.loss import ResponseLoss
from harness.train.parallel import all_finite, await_turn, full_weights, is_first, tf32, undistribute, world_size


def run(run: Run) -> StageResult:
    """Fine-tune and write model/; status "diverged" if loss or gradient is no longer finite."""
    config, settings = run.config, run.config.train
    tokenizer = load_tokenizer(config.model)
    data = load_documents(config.dataset, config.model)
    for line in (*data.notes, f"tokens in {data.entry}"):
        run.folder.log(f"data: {line}")
    await_turn(settings)
    with run.waiting("loading the model"):
        model = load_model(config.model, config.seed, four_bits=settings.lora if settings.method == "qlora" else None)
    layout = _layout(config, model, run)
    model = make_trainable(model, settings, config.seed)
    objective = ResponseLoss(model)
    try:
        with (
            packed_attention(model) if layout == "packed" else nullcontext(),
            tf32(settings.tf32),
            fast_linear(model),
            retain_freed_memory(),
        ):
            observer = _observer(run, objective, data.heldout, layout)
            metrics, status = fit(run, objective, data.train, layout, observer)
            if status == "finished":
                seen = data.heldout or data.train[: settings.batch_size]
                loss = mean_loss(objective, seen, settings.micro_batch_tokens, layout)
                if not (math.isfinite(loss) and all_finite(model)):
                    run.folder.log(
                        f"after the last step: noise-free loss {loss}, or weights that are not finite: diverged"
                    )
                    status = "diverged"
                elif data.heldout:
                    metrics["heldout/loss"] = loss
            metrics |= stability(run.folder.metrics(STEPS), settings.max_grad_norm, status)
    finally:
        undistribute(objective)
    if status == "finished":
        weights = full_weights(model, trained_only=is_adapted(model))
        if is_first():
            saved = with_template(tokenizer, config.dataset.prompt)
            generation = generation_config(config.generate, tokenizer)
            save_model(model, saved, run.folder / "model", weights, generation)
        # One of several ranks is about to exit, and its weights may be shards.
        run.model = model if world_size() > 1 else for_inference(model)
    run.folder.remove_tree("checkpoints")
    return StageResult(metrics, status, files=["model"] if status == "finished" else [])


def _observer(run: Run, objective: ResponseLoss, heldout: list[Document], layout: Layout) -> Observer | None:
    """Held-out loss during training and the measurements of the run's observers, as configured."""
    settings = run.config.train
    every = settings.heldout_every if heldout else 0
    if not (every or run.observers):
        return None

    def observe(step: int, last: bool) -> dict[str, float]:
        seen: dict[str, float] = {}
        if every and step % every == 0:
            seen["heldout/loss"] = mean_loss(objective, heldout, settings.micro_batch_tokens, layout)
        for observer in run.observers:
            seen |= observer(objective.model, heldout, step, last)
        return seen

    return observe


def _layout(config: Config, model: PreTrainedModel, run: Run) -> Layout:
    """packed if the model supports it, else (or on request) padded; the log says which."""
    packs = config.train.layout != "padded" and supports_packing(model)
    if config.train.layout == "packed" and not packs:
        key = "noise.length=row" if config.noise.length == "row" else "train.layout=packed"
        raise ValueError(f"{key}: {type(model).__name__} cannot attend within packed documents")
    layout: Layout = "packed" if packs else "padded"
    run.folder.log(f"layout: {layout}")
    return layout
