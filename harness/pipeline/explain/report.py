"""The text that `harness.explain=true` prints for one run."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np
import torch

from harness.config import Config
from harness.config.paths import resolve_path
from harness.generate.ranks import ROWS_TOGETHER
from harness.models.adapters import make_trainable
from harness.models.meta import meta_model
from harness.pipeline.explain.estimate import Size, bytes_of_weights, checkpoint, loading, memory, size_of
from harness.pipeline.explain.papers import ROWS, facts, recipe_for
from harness.pipeline.explain.rates import (
    DISK,
    GPUS,
    Work,
    known_gpu,
    precision,
    rate,
    rate_of,
    seconds_of_answers,
    work,
)
from harness.system.nodes import devices
from harness.train.checks import slow_precision
from harness.train.optimizer import lost_updates

_CHARACTERS_PER_TOKEN = 4.0
_PROMPT_TOKENS = 45  # the Alpaca prompt's own words
# Weights that are read for the noise's ratio, and documents.
_LARGEST_READ, _DOCUMENTS = 1e9, 64


def explain(config: Config, run_id: str) -> str:
    """Recipe against the paper's, memory and time; reads settings and, if available, data files."""
    return "\n".join([run_id, *_recipe(config), *_strength(config), *_batch(config), *_needs(config)]) + "\n"


def _recipe(config: Config) -> list[str]:
    recipe = recipe_for(config)
    rows = []
    for fact in facts(recipe, config):
        value: Any = config
        for part in fact.key.split("."):
            value = getattr(value, part)
        paper = " or ".join(map(_shown, fact.values))
        rows.append(("" if value in fact.values else "*", fact.key, _shown(value), paper, fact.source))
    widths = [max(len(row[column]) for row in [*rows, _HEADER]) for column in range(5)]
    lines = ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in [_HEADER, *rows]]
    different = sum(row[0] == "*" for row in rows)
    return [f"  recipe against {recipe}: {different} of {len(rows)} differ (*)", *lines]


_HEADER = ("", "key", "this run", "paper", "source")


def _shown(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _strength(config: Config) -> list[str]:
    """How large the noise is beside the embeddings, where weights and data are at hand and small."""
    if config.noise.distribution == "none":
        return []
    name = "norm of the noise / norm of the embeddings"
    bare = meta_model(config.model) if _tokenizer_at_hand(config) and _data_at_hand(config) else None
    if bare is None or bare.num_parameters() > _LARGEST_READ:
        return [f"  {name}: python -m harness.noise ratio MODEL DATA reads it off the weights"]
    from harness.train.ratio import noise_ratios

    found = noise_ratios(config, _DOCUMENTS).at(config.alpha)
    low, middle, high = np.quantile(found, (0.05, 0.5, 0.95))
    return [f"  {name}: {middle:.3f}, {low:.3f} to {high:.3f} (median, 5% to 95% of {len(found)} documents)"]


def _batch(config: Config) -> list[str]:
    train, length = config.train, config.dataset.max_length
    rows = config.noise.cost.forwards
    doubled = f", {rows} rows each" if rows > 1 else ""
    return [
        f"  effective batch: {train.batch_size} examples a step{doubled}, on any number of devices: "
        f"each takes its share in micro-batches of {max(train.micro_batch_tokens, length)} tokens"
    ]


def _needs(config: Config) -> list[str]:
    bare = meta_model(config.model)
    if bare is None:
        return [f"  memory and time: not known, model={config.model.name} has no model.shape and no folder at hand"]
    model = make_trainable(bare, config.train, config.seed)
    size = size_of(model, bare)
    parts = memory(config, size, _devices(config))
    total = sum(parts.values())
    listed = ", ".join(f"{name} {_bytes(value)}" for name, value in parts.items())
    share = f"{size.trainable / size.parameters:.2%}" if size.trainable < size.parameters else "all"
    return [
        f"  parameters: {size.parameters:,}, trained {size.trainable:,} ({share})",
        f"  memory of a device while training (estimate): {_bytes(total)} = {listed}",
        *_around(config, size),
        *_time(config, model),
        _answers(config, size),
        *filter(None, [lost_updates(config.model, config.train)]),
        *slow_precision([config.train]),
    ]


def _around(config: Config, size: Size) -> list[str]:
    """What training needs besides its devices: main memory, disk, and time for them."""
    train, ranks = config.train, devices(config.train)
    held, written = loading(config, size, ranks), checkpoint(config, size)
    count = train.keep_checkpoints + 1  # one more while it is written
    beside = " with weights, gradients and optimiser of its shards" if train.cpu_offload else ""
    read = size.parameters * bytes_of_weights(config) * (ranks if train.sharding == "fsdp" else 1)
    return [
        f"  main memory of a node (estimate): {_bytes(held)} while loading{beside}; loading {_seconds(read / DISK)} "
        f"at {DISK / 1e9:g} GB/s",
        f"  checkpoints (estimate): {_bytes(written)} each, {_bytes(written * count)} of disk for {count}, "
        f"{_seconds(written / DISK)} each at {DISK / 1e9:g} GB/s",
    ]


def _answers(config: Config, size: Size) -> str:
    """Answers on one device: rows of the decoder, bytes of keys and values, time if no answer ends before its limit."""
    settings, tokens = config.generate, config.generate.max_new_tokens
    rows = settings.batch_size or ROWS_TOGETHER["cuda"]
    wide = 4.0 if settings.dtype == "float32" else 2.0  # auto: bfloat16 on a GPU
    if config.train.method == "qlora":
        wide = bytes_of_weights(config)
    weights, cache = size.parameters * wide, 2 * size.layers * size.keys * wide
    items = config.eval_set
    prompts = items.limit or (items.heldout + items.unseen if items.path is None and items.name == "builtin" else 805)
    prompts *= settings.samples
    name, device = known_gpu(torch.cuda.get_device_name()) if torch.cuda.is_available() else ("A100", GPUS["A100"])
    taken = seconds_of_answers(device, prompts, tokens, rows, weights, cache)
    return (
        f"  answers on one {name} (estimate): {_bytes(weights)} of weights, {_bytes(cache * tokens)} of keys and "
        f"values a row of {tokens} tokens; {_seconds(taken)} at most for {prompts}, {rows} at a time"
    )


def _time(config: Config, model: Any) -> list[str]:
    examples, tokens, how = _data(config)
    if examples is None:
        return [f"  time: not known, {how}"]
    needed, (here, place) = work(config, model, examples, tokens), rate(config)
    devices = _devices(config)
    return [
        f"  data: {examples:,} examples of about {tokens:.0f} tokens ({how})",
        f"  training: {needed.steps:,} steps of {needed.documents} documents, {needed.operations:.2e} FLOPs (estimate)",
        f"  time of training here (estimate): {_duration(needed, here * devices)} on {devices} x {place}",
        f"  time of training on 4 A100 (estimate): {_duration(needed, 4 * rate_of(GPUS['A100'], precision(config)))}",
    ]


def _data(config: Config) -> tuple[int | None, float, str]:
    """Training examples, tokens per example, and the source of these numbers."""
    dataset = config.dataset
    if _data_at_hand(config):
        from harness.data import load_examples

        if _tokenizer_at_hand(config):
            from harness.data.documents import load_documents

            train = load_documents(dataset, config.model).train
            return len(train), fmean(map(len, train)), "tokenised, after all rules of dataset.clean"

        examples = load_examples(dataset)[0]
        characters = (len(each.instruction) + len(each.input) + len(each.output) for each in examples)
        template = 0 if dataset.prompt == "none" else _PROMPT_TOKENS
        each = (min(template + n / _CHARACTERS_PER_TOKEN, dataset.max_length) for n in characters)
        how = f"{_CHARACTERS_PER_TOKEN:g} characters a token; before clean.long_prompts and clean.overlong drop any"
        return len(examples), fmean(each), how
    rows = dataset.size or (ROWS[dataset.name] - dataset.heldout if dataset.name in ROWS else None)
    if rows is None:
        return None, 0.0, f"dataset={dataset.name} is not at hand and its size not known"
    return rows, dataset.max_length, "the data are not at hand: the published number of rows, each as long as allowed"


def _data_at_hand(config: Config) -> bool:
    return config.dataset.name in ("builtin", "builtin_text") or config.dataset.path is not None


def _tokenizer_at_hand(config: Config) -> bool:
    """Whether the run's tokens can be counted without downloading or converting anything."""
    model = config.model
    return model.architecture is not None or (model.path is not None and resolve_path(model.path).is_dir())


def _devices(config: Config) -> int:
    """Processes that train together, assuming that all nodes are like this one."""
    return devices(config.train) * config.train.nodes


def _bytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count < 1e11 else f"{count / 1e9:.0f} GB"


def _duration(needed: Work, per_second: float) -> str:
    return _seconds(needed.operations / per_second)


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
