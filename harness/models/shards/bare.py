"""A model that will be cut into shards: built without weights, of which each process then reads the rows it holds.

So no process ever holds the whole model, and none waits for another to load it. What is checked by figures before a
training (packing, logits) is checked on `sample_of` the model: a layer of its config with random weights.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils.hub import cached_file

from harness.config import ModelConfig
from harness.models.adapters import is_adapted
from harness.models.layers.recompute import checkpoint_layers
from harness.models.shards.pieces import fill, open_pieces
from harness.models.source import source_of
from harness.models.tokenizer import check_vocabulary
from harness.models.weights import refuse_encoder, refuse_incomplete


class BareModel(NamedTuple):
    """A model whose parameters are on the meta device, its buffers computed; and the files that hold its weights."""

    model: PreTrainedModel
    files: list[Path]


def bare_model(config: ModelConfig) -> BareModel | None:
    """The model without its weights; None where it has to be loaded whole.

    That is a model with random weights, one whose layers are set one by one, and one whose files do not hold every
    tensor under the name and in the shape that transformers' module has (older releases named some otherwise;
    transformers renames them as it loads).

    Raises:
        ValueError: as `load_model`.
    """
    if config.architecture is not None:
        return None
    source, revision = source_of(config)
    where = f"model={config.name}"
    files = weight_files(source, revision)
    found = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    refuse_encoder(found, where)
    options: dict[str, Any] = {"dtype": getattr(torch, config.dtype), "attn_implementation": config.attention}
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(found, trust_remote_code=False, **options)
    model.tie_weights()  # each parameter was replaced by one of its own
    kept_wide = config.dtype != "float32" and getattr(model, "_keep_in_fp32_modules", None)
    if not files or kept_wide or _differs_by_layer(found) or not _all_there(model, files, where):
        return None
    check_vocabulary(config, model.get_input_embeddings().weight.shape[0])
    if config.gradient_checkpointing:
        checkpoint_layers(model, selective=config.gradient_checkpointing == "selective")
    return BareModel(model.eval(), files)


def _differs_by_layer(config: Any) -> bool:
    """Whether other settings than a layer's kind are listed layer by layer, so that one cannot stand for all."""
    text = config.get_text_config()
    settings = text.to_dict().items()
    lists = {name for name, value in settings if isinstance(value, list) and len(value) == text.num_hidden_layers}
    return bool(lists - {"layer_types", "architectures", "eos_token_id"})


def weight_files(source: str, revision: str | None = None) -> list[Path]:
    """The safetensors files of a folder or a Hub model, fetched where they are not here; none where it has none."""

    def there(name: str) -> Path | None:
        # What cannot be had, whatever the reason, is reported where the model is then read whole.
        quiet = {f"_raise_exceptions_for_{case}": False for case in ("missing_entries", "connection_errors")}
        path = cached_file(source, name, revision=revision, **quiet)
        return None if path is None else Path(path)

    if whole := there("model.safetensors"):
        return [whole]
    index = there("model.safetensors.index.json")
    if index is None:
        return []
    names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    paths = [there(name) for name in names]
    return [path for path in paths if path is not None] if all(paths) else []


def _all_there(model: PreTrainedModel, files: Sequence[Path], where: str) -> bool:
    with open_pieces(files) as found:
        shapes = {name: pieces[0][1].get_slice(name).get_shape() for name, pieces in found.items()}
    wanted = {name: list(tensor.shape) for name, tensor in saved_tensors(model).items()}
    if any(shapes.get(name) != shape for name, shape in wanted.items()):
        return False
    further = shapes.keys() - model.state_dict().keys()
    refuse_incomplete(model, {"missing_keys": [], "mismatched_keys": [], "unexpected_keys": further}, where)
    return True


def saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a model's files hold, by their names: parameters, tied ones once, and the buffers saved beside them.

    Of a model that PEFT wraps, those of its base.
    """
    adapted = is_adapted(model)
    base: Any = model.get_base_model() if adapted else model  # type: ignore[operator]
    saved = base.state_dict().keys()
    buffers = {name: buffer for name, buffer in base.named_buffers() if name in saved}
    held: dict[str, Tensor] = dict(base.named_parameters()) | buffers
    if not adapted:
        return held
    return {name.replace(".base_layer.", "."): each for name, each in held.items() if ".lora_" not in name}


@contextmanager
def stand_in_weights(model: nn.Module) -> Iterator[None]:
    """Inside the block, a bare model seems to have its weights in main memory; each is a single number, repeated.

    So that adapters made there are real, with the numbers that one process draws: on the meta device they have none.
    """
    stand_ins: dict[nn.Parameter, nn.Parameter] = {}
    replaced: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in list(model.modules()):
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                one = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
                stand_ins.setdefault(parameter, nn.Parameter(one, parameter.requires_grad))
                replaced.append((module, name, parameter))
                module._parameters[name] = stand_ins[parameter]
    try:
        yield
    finally:
        for module, name, parameter in replaced:
            parameter.requires_grad_(stand_ins[parameter].requires_grad)
            module._parameters[name] = parameter


def materialise(module: nn.Module, model: nn.Module, files: Sequence[Path], device: torch.device) -> None:
    """Give the sharded parameters memory on a device and read into it the rows of this process.

    Args:
        module: what was sharded (`fully_shard`), with the model inside.
        model: whose names the files know; adapters on it have their weights already.
    """
    # Buffers are where `fully_shard` has put them: on the GPU, even where shards stay in main memory.
    module._apply(lambda each: torch.empty_like(each, device=device) if each.is_meta else each)
    fill(files, saved_tensors(model))


def sample_of(model: PreTrainedModel) -> PreTrainedModel:
    """A layer of each of the model's kinds with random weights: what its architecture does can be seen in it."""
    config = copy.deepcopy(model.config)
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    text.num_hidden_layers = 1
    if kinds:
        chosen = list(dict.fromkeys(kinds))
        text.layer_types, text.num_hidden_layers = chosen, len(chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sample: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return sample.eval()
