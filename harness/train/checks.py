"""Checks before training starts: model, data, method, adapters, optimiser, layout, lengths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from harness.config import Config, DatasetConfig, ModelConfig, NoiseConfig, TrainConfig
from harness.context import Job
from harness.data import check_dataset, check_eval_set
from harness.models.checks import check_model, check_noisable
from harness.noise.definition import is_own
from harness.system.packages import require_package


def check(config: Config) -> None:
    """Check model, method and data, and the instructions, which are part of the run's identity.

    Raises:
        ValueError: as `check_model`, `check_noisable`, `check_training`, `load_dataset` and `check_eval_set`,
            or no liger-kernel.
    """
    check_model(config.model, fetch=not config.harness.dry_run)
    if config.train.liger:
        require_package("liger_kernel", "train.liger=true", "liger")
    if not (config.train.is_plain and config.train.layout != "packed"):
        check_training(config.model, config.train)
    _check_own(config.noise)
    if config.noise.distribution != "none":
        check_noisable(config.model)
    check_dataset(config)
    check_eval_set(config)


def _check_own(noise: NoiseConfig) -> None:
    """Load the user's own distribution or method before anything starts."""
    if is_own(noise.distribution):
        from harness.noise.distributions import own_distribution

        own_distribution(noise.distribution)
    if noise.own is not None:
        from harness.train.methods.own import own_method

        own_method(noise.own.target)


def prepare(jobs: Sequence[Job]) -> list[str]:
    """Check the weights, and tokenize the training data into the cache.

    Returns:
        What to know of the data, and a warning of weights that most steps leave where they are.

    Raises:
        ValueError: weights that do not match the model (`check_weights`), an example that no cleaning rule lets pass,
            or one longer than the model has positions.
    """
    from harness.train.optimizer import lost_updates

    pending = [job.config for job in jobs if "train" in job.pending]
    for model in dict.fromkeys(config.model for config in pending):
        _check_weights(model)
    warnings = dict.fromkeys(lost_updates(config.model, config.train) for config in pending)
    data = [line for config in pending for line in _documents(config.dataset, config.model)]
    return [*filter(None, warnings), *data]


def slow_precision(all_settings: Iterable[TrainConfig]) -> list[str]:
    """A warning if a training on this machine would be faster in float32."""
    if not any(each.precision == "bf16" for each in all_settings):
        return []
    from harness.models.place import bfloat16_is_slower

    if not bfloat16_is_slower():
        return []
    return [
        "warning: train.precision=bf16 is slower than fp32 on this processor, which has no matrix units for it "
        "(amx_bf16; on AMD avx512_bf16)"
    ]


@cache
def _check_weights(model: ModelConfig) -> None:
    from harness.models.weights import check_weights

    check_weights(model)


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


def check_training(model: ModelConfig, settings: TrainConfig) -> None:
    """Check method, freeze, adapters, optimiser and layout on the meta-device model, before anything is read.

    Raises:
        ValueError: as `make_trainable`, `check_optimizer` and `check_quantisation`, or packed rows for a model that
            cannot keep their documents apart.
    """
    from harness.models.adapters import check_peft, check_quantisation, make_trainable
    from harness.models.attention import has_known_structure
    from harness.models.layers.liger import check_liger
    from harness.models.meta import meta_model
    from harness.train.optimizer import check_optimizer

    if settings.method == "qlora":
        check_quantisation()
    if settings.method != "full":
        check_peft()
    check_optimizer(settings)
    bare = meta_model(model)
    if bare is not None:
        if settings.liger:
            check_liger(bare.config.model_type)
        if settings.layout == "packed" and not has_known_structure(bare):
            raise ValueError(f"train.layout=packed: {type(bare).__name__} cannot attend within packed documents")
        make_trainable(bare, settings)
