"""The stage `train`: the whole loop, flat. Documents in, a fine-tuned model and metrics.jsonl out.

One optimiser step takes an effective batch of documents, divided over the ranks; each rank packs its share into
micro-batches. The loss is the sum over the response tokens of the effective batch divided by their number, whatever
the packing and the number of micro-batches or ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import reduce
from torch import Tensor

from harness.config import Config, TrainConfig
from harness.context import Run
from harness.data.batching import Document, Layout
from harness.metrics.names import EPOCH, GLOBAL_STEP, GRAD_NORM, LEARNING_RATE, TRAIN_LOSS
from harness.models.place import describe
from harness.models.tokenizer import load_tokenizer
from harness.noise import input_embedding
from harness.system.memory import PeakMemory
from harness.system.signals import deferred_termination
from harness.train.checkpoint import Checkpoints, load_checkpoint
from harness.train.cost import Meter, ModelSize, squared_lengths
from harness.train.loss import ResponseLoss
from harness.train.methods import Method, MicroBatch, method_of
from harness.train.noise import TrainingNoise, noise_of
from harness.train.optimizer import build_optimizer
from harness.train.parallel import (
    accelerator_for,
    clip_gradients,
    distribute,
    share_of,
)
from harness.train.schedule import batch_at, lr_factor, matched_schedule, steps_per_epoch, total_steps, unique_examples

# (step, whether it is the last) -> metrics, empty if none are due
Observer = Callable[[int, bool], dict[str, float]]


@dataclass(frozen=True)
class StepState:
    """The objects that every optimiser step uses, made once per training."""

    accelerator: Accelerator
    method: Method
    noise: TrainingNoise
    settings: TrainConfig
    layout: Layout
    meter: Meter


def fit(
    run: Run,
    objective: ResponseLoss,
    documents: list[Document],
    layout: Layout,
    observe: Observer | None = None,
    files: Sequence[Path] | None = None,
) -> tuple[dict[str, float], str]:
    """The training loop.

    Args:
        observe: called after every step; its metrics join the log, its time does not count.
        files: as in `distribute`.

    Returns:
        Final metrics, and "finished" or "diverged".
    """
    config, settings, model = run.config, run.config.train, objective.model
    size = ModelSize.of(model)
    accelerator = accelerator_for(settings)
    wrapped = distribute(objective, accelerator, settings, files)
    run.folder.log(f"train: {describe(accelerator.device)}, {accelerator.num_processes} processes")
    optimizer = build_optimizer(model.parameters(), settings)
    optimizer = accelerator.prepare(optimizer)
    steps = total_steps(len(documents), settings.batch_size, settings.epochs, settings.max_steps)
    cost, count = config.noise.cost, len(documents)
    planned = matched_schedule(count, settings.batch_size, steps, cost.forwards, settings.budget)
    total, batch_size = planned.steps, planned.batch_size
    folder, fingerprint = run.folder / "checkpoints", run.job.fingerprints["train"]
    resumed = load_checkpoint(folder, fingerprint, wrapped, optimizer)
    start = resumed.step
    for line in resumed.refused:
        run.folder.log(line)
    run.folder.truncate_metrics(start)
    memory = PeakMemory(accelerator.device)
    meter = Meter(resumed.counts, size, cost)
    special_ids = torch.tensor(load_tokenizer(config.model).all_special_ids)
    method = method_of(config.noise, accelerator, wrapped, settings.pair_mode)
    embedding = input_embedding(model)
    noise = TrainingNoise(noise_of(config), config.seed, embedding, special_ids, method.noise_stream)
    state = StepState(accelerator, method, noise, settings, layout, meter)
    status, row = "finished", {}
    model.train()
    with (
        run.progress("train", total, "step", initial=start) as progress,
        Checkpoints(folder, fingerprint, settings.keep_checkpoints, settings.checkpoint_async) as checkpoints,
        deferred_termination() as termination,
    ):
        for step in range(start, total):
            run.stop.check()
            # Dropout uses the global generator; seeded by the step, a resumed run repeats it.
            torch.manual_seed((config.seed * 1_000_003 + step) * accelerator.num_processes + accelerator.process_index)
            chosen = [documents[index] for index in batch_at(step, count, batch_size, config.seed)]
            noise.measure = (step + 1) % settings.log_every == 0
            with run.waiting("first step") if step == start else nullcontext():
                loss, penalty = forward_backward(state, chosen, step, step / total)
            grad_norm = clip_gradients(model.parameters(), settings.max_grad_norm)
            if math.isfinite(loss) and math.isfinite(grad_norm):
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr * lr_factor(step, total, settings.warmup_ratio, settings.scheduler)
                optimizer.step()
            else:
                status = "diverged"
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            observed: dict[str, float] = {}
            if observe and status != "diverged":
                with meter.paused():
                    observed = observe(done, done == total)
            row = {"step": done, GLOBAL_STEP: done, EPOCH: done / steps_per_epoch(count, batch_size)}
            row |= {TRAIN_LOSS: loss, GRAD_NORM: grad_norm, LEARNING_RATE: optimizer.param_groups[0]["lr"]}
            if observed or done % settings.log_every == 0 or done == total or status == "diverged":
                row |= {"train/penalty": penalty} | meter.row() | _realised(noise)
                row["train/unique_examples"] = unique_examples(done, count, batch_size)
                row |= memory.row() | _noise_time(config, noise, meter)
            run.folder.append_metrics(row | observed)
            run.tracker.log(row | observed)
            progress.update(loss=f"{loss:.3f}", tokens_per_s=f"{meter.rate():.0f}")
            if status == "diverged":
                run.folder.log(f"step {done}: loss {loss}, gradient norm {grad_norm}: diverged")
                break
            leaving = termination.agreed(accelerator)
            due = settings.checkpoint_every and done % settings.checkpoint_every == 0
            if (leaving or due) and done < total:
                checkpoints.save(done, wrapped, optimizer, meter.state())
            if leaving:
                checkpoints.wait()
                run.folder.log(f"step {done}: {termination.name}: saved, leaving")
                termination.leave(f"step {done} of {total}")
    if "noise/ratio" in row and noise.noise.distribution != "none":
        run.folder.log(f"noise: norm {row['noise/norm']:.3g}, {row['noise/ratio']:.1%} of the embeddings' norm")
    return {key: value for key, value in row.items() if key != "step" and math.isfinite(value)}, status


def forward_backward(state: StepState, documents: list[Document], step: int, progress: float) -> tuple[float, float]:
    """Accumulate the gradient of one optimiser step: this rank's share of its documents.

    Returns:
        The objective of the effective batch over all ranks, and the part of it that is a regulariser's penalty.
    """
    accelerator, settings, method = state.accelerator, state.settings, state.method
    rank, ranks = accelerator.process_index, accelerator.num_processes
    ours = share_of(documents, rank, ranks, state.layout, settings.micro_batch_tokens, settings.row_multiple)
    lengths = [len(document) for document in documents]

    def accumulate() -> Tensor:
        losses = torch.zeros(2, device=accelerator.device)
        for number, batch in enumerate(batch.to(accelerator.device) for batch in ours.batches):
            of_mean = max(batch.n_targets, 1) * ours.micro_batches
            # A batch of documents without targets (all labels masked) gives no loss and no gradient.
            share = 1 / (max(ours.targets, 1) if settings.loss == "token_mean" else of_mean)
            last = number == len(ours.batches) - 1
            micro = MicroBatch(batch, state.noise.of(batch, step, progress), share, last)
            with nullcontext() if last else accelerator.no_sync(method.objective):
                losses += method.backward(micro)
        return losses

    losses = method.step(accumulate)
    state.meter.count(len(documents), sum(lengths), squared_lengths(lengths))
    loss, penalty = accelerator.reduce(losses).tolist()
    return loss, penalty


@torch.no_grad()
def mean_loss(
    objective: ResponseLoss, documents: Sequence[Document], max_tokens: int, layout: Layout, multiple: int = 1
) -> float:
    """Noise-free loss per response token (nats), with the model in evaluation mode."""
    state, was_training = PartialState(), objective.training
    total = torch.zeros(2, dtype=torch.float64)
    objective.eval()
    for batch in share_of(documents, state.process_index, state.num_processes, layout, max_tokens, multiple).batches:
        total += torch.stack([part.double().cpu() for part in objective(batch.to(state.device))])
    objective.train(was_training)
    loss, count = reduce(total.to(state.device)).tolist()
    return float(loss / count) if count else math.nan


def _realised(noise: TrainingNoise) -> dict[str, float]:
    return {"noise/alpha": noise.alpha, **(noise.last.summary() if noise.measure and noise.last else {})}


def _noise_time(config: Config, noise: TrainingNoise, meter: Meter) -> dict[str, float]:
    """Share of the time spent drawing and adding noise; not for methods whose passes compute it."""
    if config.noise.method != "noise":
        return {}
    return {"noise/time_percent": 100 * noise.stopwatch.seconds / meter.attempt_seconds}
