"""What the noise costs: a training step of SmolLM2-135M with each kind, divided by the same step without.

    python -m benchmarks.noise_cost [--rounds 5] [--documents 4] [--length 256] [--threads 2] [--loop transformers]

The model has SmolLM2-135M's shape and random weights, which are as fast as trained ones. `--loop harness` takes the
steps of this project's training stage (packed rows, logits at targets only), `--loop transformers` calls the model
with labels as in docs/noise.md: a pair then forms twice the logits of all positions at once, where the harness forms a
chunk at a time. Kinds take turns in both orders, so that a slow minute of the machine meets all of them. Others on the
machine only ever make a step slower: "ratio of the fastest" divides the fastest step of a kind by the fastest without
noise, and is what --max-single and --max-pair check. The other ratios are medians over rounds of the ratio within the
round, with the lowest and the highest, by the clock and by the processor time of all threads; the kind "none, again"
shows how much of them is the machine. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._common import both_orders, machine, spread, table
from harness.config import NoiseConfig
from harness.config.train import PairMode
from harness.data.batching import Batch, Document, micro_batches
from harness.models.attention import packed_attention
from harness.models.onednn import fast_linear
from harness.noise import PRESETS, EmbeddingNoise, Noise, input_embedding, noise_generators, perturb
from harness.system.memory import retain_freed_memory
from harness.train.loss import ResponseLoss
from harness.train.methods import MicroBatch, method_of
from harness.train.noise import TrainingNoise

SMOLLM2_135M = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
    use_cache=False,
)
# Label -> preset and how its pair goes through the model.
KINDS: dict[str, tuple[str, PairMode]] = {
    "none": ("none", "concat"),
    "none, again": ("none", "concat"),
    "neftune": ("neftune", "concat"),
    "gaussian": ("gaussian", "concat"),
    "bernoulli_matched": ("bernoulli_matched", "concat"),
    "embedding_dropout": ("embedding_dropout", "concat"),
    "symnoise, concat": ("symnoise", "concat"),
    "symnoise, sequential": ("symnoise", "sequential"),
    "neftune_x2, concat": ("neftune_x2", "concat"),
}
COLUMNS = ("noise", "s a step", "ratio of the fastest", "ratio", "ratio of processor time", "noise alone, ms")
Step = Callable[[], None]


def documents_of(count: int, length: int) -> list[Document]:
    """Random tokens, a quarter of them prompt; the first document has `length` of them, each next 7 fewer."""
    random = np.random.default_rng(0)
    sizes = [max(2, length - 7 * number) for number in range(count)]
    tokens = [random.integers(3, SMOLLM2_135M.vocab_size, size) for size in sizes]
    return [Document(i, ids, np.where(np.arange(len(ids)) < len(ids) // 4, -100, ids)) for i, ids in enumerate(tokens)]


def harness_step(objective: ResponseLoss, batch: Batch, preset: str, mode: PairMode, accelerator: Accelerator) -> None:
    """Forward and backward as harness.train.loop makes them; "none" is the loop without noise."""
    noise = Noise(**PRESETS[preset])
    if noise.distribution == "none":
        loss, targets = objective(batch)
        (loss / targets).backward()
        return
    config = NoiseConfig(name=preset, distribution=noise.distribution, pair=noise.pair, rate=noise.rate)
    source = TrainingNoise(noise, 0, input_embedding(objective.model))
    micro = MicroBatch(batch, source.of(batch, step=0), 1 / batch.n_targets, last=True)
    method_of(config, accelerator, objective, mode).backward(micro)


def transformers_step(model: LlamaForCausalLM, batch: dict[str, Tensor], preset: str, mode: PairMode) -> None:
    """The loops of docs/noise.md."""
    noise = Noise(**PRESETS[preset])
    if noise.distribution == "none":
        model(**batch).loss.backward()
        return
    halves = (0, 1) if mode == "sequential" else (None,)
    with EmbeddingNoise(model, noise, 0) as injector:
        for half in halves:
            injector.at(step=0, half=half)
            (model(**batch).loss / len(halves)).backward()


def steps_of(model: LlamaForCausalLM, loop: str, documents: list[Document]) -> dict[str, Step]:
    """A whole optimiser step of each kind, all of one model."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    objective, accelerator = ResponseLoss(model), Accelerator(cpu=True)
    (packed,) = micro_batches(documents, layout="packed")
    (padded,) = micro_batches(documents, layout="padded")
    named = {"input_ids": padded.input_ids, "attention_mask": padded.attention_mask, "labels": padded.labels}

    def step(preset: str, mode: PairMode) -> None:
        if loop == "harness":
            harness_step(objective, packed, preset, mode, accelerator)
        else:
            transformers_step(model, named, preset, mode)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {label: partial(step, *kind) for label, kind in KINDS.items()}


@contextmanager
def surroundings(model: LlamaForCausalLM, loop: str) -> Iterator[None]:
    """What the training stage works inside; for the loop of transformers nothing."""
    if loop == "transformers":
        yield
        return
    with packed_attention(model), fast_linear(model), retain_freed_memory():
        yield


def seconds_of(steps: dict[str, Step], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """By label, of each round: seconds by the clock and of processor time."""
    for label in ("none", "symnoise, concat"):
        steps[label]()  # warm-up: the largest allocations there are
    wall: dict[str, list[float]] = {label: [] for label in steps}
    processor: dict[str, list[float]] = {label: [] for label in steps}
    for number, label in enumerate(both_orders(list(steps), rounds), start=1):
        start, start_of_processor = time.perf_counter(), time.process_time()
        steps[label]()
        wall[label].append(time.perf_counter() - start)
        processor[label].append(time.process_time() - start_of_processor)
        if number % len(steps) == 0:
            print(f"round {number // len(steps)} of {rounds} done", file=sys.stderr)
    return wall, processor


def milliseconds_of_noise(preset: str, documents: list[Document]) -> float:
    """The noise outside of any model, generators and layout included; median of 15."""
    (batch,) = micro_batches(documents, layout="packed")
    embeddings, found = torch.randn(*batch.input_ids.shape, SMOLLM2_135M.hidden_size), []
    for turn in range(15):
        start = time.perf_counter()
        generators = noise_generators(0, turn, batch.documents)
        perturb(embeddings, batch.attention_mask, Noise(**PRESETS[preset]), generators, batch.document_ids)
        found.append(1000 * (time.perf_counter() - start))
    return median(found)


def ratios(seconds: dict[str, list[float]], label: str) -> list[float]:
    """To the step without noise of the same round."""
    return [one / none for one, none in zip(seconds[label], seconds["none"], strict=True)]


def main() -> int:
    """Measure, print the table, and return 1 where a ratio passes a limit given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--loop", choices=("harness", "transformers"), default="harness")
    parser.add_argument("--max-single", type=float, help="largest ratio of one-sided noise, e.g. 1.02")
    parser.add_argument("--max-pair", type=float, help="largest ratio of a pair, e.g. 2.05")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    documents = documents_of(options.documents, options.length)
    model = LlamaForCausalLM(SMOLLM2_135M).train()
    steps = steps_of(model, options.loop, documents)
    with surroundings(model, options.loop):
        wall, processor = seconds_of(steps, options.rounds)
    rows, too_slow = [], []
    for label, (preset, _) in KINDS.items():
        ratio, noise = ratios(wall, label), Noise(**PRESETS[preset])
        alone = 0.0 if preset == "none" else milliseconds_of_noise(preset, documents)
        of_processor = spread(ratios(processor, label), 3)
        fastest = min(wall[label]) / min(wall["none"])
        rows.append((label, spread(wall[label]), f"{fastest:.3f}", spread(ratio, 3), of_processor, f"{alone:.2f}"))
        limit = options.max_pair if noise.halves == 2 else options.max_single
        if preset != "none" and limit is not None and fastest > limit:
            too_slow.append(label)
    print(table(COLUMNS, rows))
    size = f"{options.documents} documents of about {options.length} tokens, {options.rounds} rounds"
    print(f"\n{size}, {options.threads} threads, loop of {options.loop}; {machine()}.")
    print("".join(f"Too slow: {label}\n" for label in too_slow), end="")
    return 1 if too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
