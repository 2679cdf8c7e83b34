"""The stage `train`: documents in, a fine-tuned model and metrics.jsonl out."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

from transformers import PreTrainedModel

from harness.config import Config
from harness.context import Run, StageResult
from harness.data.batching import Document, Layout
from harness.data.documents import load_documents
from harness.data.saved_template import with_template
from harness.metrics.names import EVAL_LOSS
from harness.metrics.stability import stability
from harness.models.adapters import for_inference, is_adapted, make_trainable
from harness.models.attention import packed_attention, supports_packing
from harness.models.decoding import generation_config
from harness.models.layers.compiled import compiled_layers
from harness.models.layers.last import last_layer_at_targets
from harness.models.layers.lean import lean_layers
from harness.models.layers.liger import liger_kernels
from harness.models.load import load_model
from harness.models.onednn import fast_linear
from harness.models.save import save_model
from harness.models.shards.bare import bare_model, sample_of, stand_in_weights
from harness.models.tokenizer import load_tokenizer
from harness.system.memory import retain_freed_memory
from harness.train.loop import Observer, fit, mean_loss
from harness.train.loss import ResponseLoss
from harness.train.optimizer import lost_updates
from harness.train.parallel import (
    all_finite,
    await_turn,
    full_weights,
    is_first,
    takes_shards,
    tf32,
    undistribute,
    world_size,
)


def run(run: Run) -> StageResult:
    """Fine-tune and write model/; status "diverged" if loss or gradient is no longer finite."""
    config, settings = run.config, run.config.train
    tokenizer = load_tokenizer(config.model)
    if lost := lost_updates(config.model, settings):
        run.folder.log(lost)
    data = load_documents(config.dataset, config.model)
    for line in (*data.notes, f"tokens in {data.entry}"):
        run.folder.log(f"data: {line}")
    with run.waiting("loading the model"):
        model, files = _load(run)
    sample = model if files is None else sample_of(model)
    layout = _layout(config, sample, run)
    with nullcontext() if files is None else stand_in_weights(model):
        model = make_trainable(model, settings, config.seed)
    objective = ResponseLoss(model, model if files is None else sample)
    del sample
    try:
        with (
            packed_attention(model) if layout == "packed" else nullcontext(),
            compiled_layers(model) if settings.compile else nullcontext(),
            liger_kernels(model) if settings.liger else nullcontext(),
            lean_layers(model),
            # Not compiled: another number of targets would be another shape. Not over ranks: layers may be sharded.
            nullcontext() if settings.compile or world_size() > 1 else last_layer_at_targets(model),
            tf32(settings.tf32),
            fast_linear(model),
            retain_freed_memory(),
        ):
            observer = _observer(run, objective, data.heldout, layout)
            metrics, status = fit(run, objective, data.train, layout, observer, files)
            if status == "finished":
                seen = data.heldout or data.train[: settings.batch_size]
                loss = mean_loss(objective, seen, settings.micro_batch_tokens, layout, settings.row_multiple)
                if not (math.isfinite(loss) and all_finite(model)):
                    run.folder.log(
                        f"after the last step: noise-free loss {loss}, or weights that are not finite: diverged"
                    )
                    status = "diverged"
                elif data.heldout:
                    metrics[EVAL_LOSS] = loss
            metrics |= stability(run.folder.metrics(), settings.max_grad_norm, status)
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


def _load(run: Run) -> tuple[PreTrainedModel, list[Path] | None]:
    """The model on the CPU; or, to be cut into shards, without weights, and the files of these."""
    config, settings = run.config.model, run.config.train
    if takes_shards(settings):  # never with a base of 4 bits
        bare = bare_model(config)
        if bare is not None:
            run.folder.log(f"loading: each process reads its rows from {len(bare.files)} files")
            return bare
    await_turn(settings)
    return load_model(config, run.config.seed, four_bits=settings.lora if settings.method == "qlora" else None), None


def _observer(run: Run, objective: ResponseLoss, heldout: list[Document], layout: Layout) -> Observer | None:
    """Held-out loss during training and the measurements of the run's observers, as configured."""
    settings = run.config.train
    every = settings.heldout_every if heldout else 0
    shape = (settings.micro_batch_tokens, layout, settings.row_multiple)
    if not (every or run.observers):
        return None

    def observe(step: int, last: bool) -> dict[str, float]:
        seen: dict[str, float] = {}
        if every and step % every == 0:
            seen[EVAL_LOSS] = mean_loss(objective, heldout, *shape)
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
