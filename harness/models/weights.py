"""Checks that weight files hold the whole model: every tensor, with its shape, finite; and that it is a decoder.

transformers fills missing tensors with random numbers and only says so on stderr.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from harness.config import ModelConfig
from harness.config.paths import resolve_path
from harness.models.checks import reading
from harness.record.cache import cache_dir

disable_progress_bar()  # the run shows its own; here, because whatever loads a model imports this module


def check_weights(config: ModelConfig) -> None:
    """Check a folder's weights against its config.json: names and shapes from the headers, then every number once.

    Raises:
        ValueError: not a decoder; tensors that are missing, left over or of another shape; or weights that are not
            finite.
    """
    if config.path is None or not (folder := resolve_path(config.path)).is_dir():
        return  # a Hub model and a GGUF file are checked against their config when they are loaded
    where = f"model.path={folder}"
    unreadable = f"{where}: transformers cannot read it"
    with reading(unreadable):
        found: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    refuse_encoder(found, where)
    with reading(unreadable):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    model, info = loaded
    refuse_incomplete(model, info, where)
    _refuse_not_finite(sorted(folder.glob("*.safetensors")), where)


def refuse_encoder(config: Any, where: str) -> None:
    """Refuse models like BERT, which attend to later tokens: as causal models they would see the answer.

    Raises:
        ValueError: such a model, or one with an encoder.
    """
    text = config.get_text_config()
    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(text, "is_decoder", False)
    if masked or getattr(text, "is_encoder_decoder", False):
        raise ValueError(
            f"{where}: model_type={config.model_type} is not a decoder (a causal language model is needed)"
        )


def refuse_incomplete(model: PreTrainedModel, info: dict[str, Any], where: str) -> None:
    """Refuse weights that transformers would fill with random numbers, or leave out.

    Args:
        model: as loaded, possibly on the meta device.
        info: the `output_loading_info`.
        where: where the model is, for the message.

    Raises:
        ValueError: tensors that are missing or of another shape, or layers that config.json does not have.
    """
    if missing := sorted(map(str, info["missing_keys"])):
        raise ValueError(
            f"{where}: {len(missing)} tensors that config.json asks for are not in the weights, and would be random: "
            f"{_some(missing)}; get the files again, or fix config.json"
        )
    if mismatched := sorted(map(str, info["mismatched_keys"])):
        raise ValueError(
            f"{where}: {len(mismatched)} tensors have other shapes than config.json says: {_some(mismatched)}"
        )
    known = {_numberless(name) for name in model.state_dict()}
    further = sorted(str(name) for name in info["unexpected_keys"] if _numberless(str(name)) in known)
    if further:
        raise ValueError(
            f"{where}: the weights hold layers that config.json does not have: {_some(further)}; fix num_hidden_layers"
        )


def _refuse_not_finite(files: list[Path], where: str) -> None:
    """Check that all numbers are finite, once per state of the files; the cache remembers sound ones."""
    state = [
        (str(path.resolve()), each.st_size, each.st_mtime_ns, each.st_ino) for path in files for each in [path.stat()]
    ]
    sound = cache_dir() / "weights" / hashlib.sha256(repr(state).encode()).hexdigest()[:32]
    if sound.exists():
        return
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not _is_finite(tensor):
                    raise ValueError(f"{where}: {path.name}: {name} holds NaN or infinity; get the files again")
    sound.parent.mkdir(parents=True, exist_ok=True)
    sound.touch()


def _is_finite(tensor: torch.Tensor) -> bool:
    # A sum in float32 would pass its range; the extremes are NaN where any number is.
    return tensor.numel() == 0 or bool(torch.isfinite(torch.stack(tensor.float().aminmax())).all())


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "N", name)


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "")
