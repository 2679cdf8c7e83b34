"""Which parameters of a model are trained: all, all but frozen parts, or low-rank adapters on a frozen base."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from harness.config import LoRAConfig, TrainConfig
from harness.system.packages import require_package

# Names of attention modules in transformers' decoders: Llama-like ones, GPT-2, GPT-NeoX, BLOOM.
_ATTENTION = {"self_attn", "attn", "attention", "self_attention"}
_PARTS = ("embeddings", "head", "attention")
_ALL_LINEAR = "all-linear"


def make_trainable(model: PreTrainedModel, settings: TrainConfig, seed: int = 0) -> Any:
    """The model to train: the given one with parts frozen, or wrapped by PEFT with fresh adapters.

    Args:
        model: real, or on the meta device (`harness.models.meta`) to check counts and names.
        settings: method, lora and freeze.
        seed: seed of the adapters' first matrix; the second is zero, so training starts at the base model.

    Raises:
        ValueError: a part or target that matches nothing, or nothing left to train.
    """
    if settings.method == "full":
        freeze(model, settings.freeze)
        return model
    return add_adapters(model, settings.lora, seed)


def freeze(model: PreTrainedModel, parts: Iterable[str]) -> None:
    """Freeze parts: "embeddings", "head", "attention" or patterns of parameter names.

    Raises:
        ValueError: a part matches nothing, is tied to one that is still trained, or leaves nothing to train.
    """
    parts = list(parts)
    tied = _weight(model.get_input_embeddings()) is _weight(model.get_output_embeddings())
    if tied and ("embeddings" in parts) != ("head" in parts):
        raise ValueError(f"train.freeze={parts}: this model's head and embeddings are one tensor: give both or neither")
    for part in parts:
        matched = _parameters_of(model, part)
        if not matched:
            some = ", ".join(name for name, _ in list(model.named_parameters())[:4])
            raise ValueError(
                f"train.freeze: {part!r} matches no parameter of {type(model).__name__}; choose from "
                f"{', '.join(_PARTS)} or a pattern of names such as {some} ..."
            )
        for parameter in matched:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"train.freeze={parts}: nothing is left to train")


def _parameters_of(model: PreTrainedModel, part: str) -> list[nn.Parameter]:
    if part == "embeddings":
        return list(model.get_input_embeddings().parameters())
    if part == "head":
        head = model.get_output_embeddings()
        return list(head.parameters()) if head is not None else []
    named = model.named_parameters()
    if part == "attention":
        return [parameter for name, parameter in named if _ATTENTION & set(name.split("."))]
    return [parameter for name, parameter in named if fnmatchcase(name, part)]


def _weight(module: Any) -> Any:
    return getattr(module, "weight", None)


def add_adapters(model: PreTrainedModel, settings: LoRAConfig, seed: int) -> Any:
    """The model wrapped by PEFT, with LoRA on the chosen layers and everything else frozen.

    Raises:
        ValueError: PEFT is not installed, or a target matches no module.
    """
    check_peft()
    from peft import LoraConfig, get_peft_model

    model = adapter_base(model)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=_targets(model, settings.targets),
        init_lora_weights=model.device.type != "meta",
    )
    with torch.random.fork_rng(devices=[]), peft_warnings():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def adapter_base(model: Any) -> Any:
    """The base model as adapters need it, both in training and when they are loaded again.

    On a 4-bit base, embedding, norms and head become float32 (QLoRA, 2305.14314; PEFT's
    `prepare_model_for_kbit_training`). In 16 bits the same adapter would give other answers.
    """
    if not getattr(model, "is_quantized", False):
        return model
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def check_peft() -> None:
    require_package("peft", "train.method=lora", "peft")


@contextmanager
def peft_warnings() -> Iterator[None]:
    """Silence warnings that only PEFT can fix, or that are handled here.

    PEFT 0.21 uses a name that transformers 5.23 deprecates; it reports setting fan_in_fan_out for Conv1D; and it warns
    of adapters on tied weights, which `merge_adapters` unties.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
        warnings.filterwarnings("ignore", ".*tie_word_embeddings", UserWarning)
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _targets(model: PreTrainedModel, targets: list[str]) -> str | list[str]:
    if _ALL_LINEAR in targets:
        if len(targets) > 1:
            raise ValueError(f"train.lora.targets={targets}: all-linear stands alone")
        return _ALL_LINEAR
    names = [name for name, _ in model.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            ends = sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if _is_linear(module)})
            raise ValueError(
                f"train.lora.targets: {target!r} matches the end of no module name in {type(model).__name__}; "
                f"its linear layers: {', '.join(ends)}"
            )
    return targets


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def is_adapted(model: Any) -> bool:
    """Whether PEFT wraps the model."""
    return hasattr(model, "peft_config")


def for_inference(model: Any) -> Any:
    """The model to generate with: adapters are merged if that is exact up to float32 rounding.

    A 4- or 16-bit base keeps its adapters separate, since merging would round them away.
    """
    if is_adapted(model) and model.dtype == torch.float32 and not getattr(model, "is_quantized", False):
        return merge_adapters(model)
    return model


def merge_adapters(model: Any) -> Any:
    """The base model with W + (alpha / rank) B A in place of each adapted W.

    If embedding and head are one tensor and an adapter is on one of them, they are untied in the merged model: merged
    into the shared tensor, the adapter would also change the other, which it never did in training.
    """
    _untie_adapted(model)
    with peft_warnings():
        merged = model.merge_and_unload()
    # PEFT up to 0.18 leaves its mark on what has no adapter any more.
    vars(merged).pop("peft_config", None)
    return merged


def _untie_adapted(model: Any) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = list(model.modules())
    for layer in (module for module in modules if isinstance(module, BaseTunerLayer)):
        base: Any = layer.get_base_layer()
        sharing = sum(parameter is base.weight for each in modules for parameter in each._parameters.values())
        if sharing > 1:
            base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)
            model.config.get_text_config().tie_word_embeddings = False
            model.config.tie_word_embeddings = False


def check_quantisation() -> None:
    """Check that method=qlora can run here.

    Raises:
        ValueError: bitsandbytes is not installed, or no CUDA device is visible.
    """
    advice = "train.method=lora needs neither it nor a GPU"
    require_package("bitsandbytes", "train.method=qlora", "qlora", advice)
    if not torch.cuda.is_available():
        raise ValueError("train.method=qlora: needs a CUDA GPU, and none is visible here; use train.method=lora")
