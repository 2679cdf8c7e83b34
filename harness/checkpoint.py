"""Resumable training state as safetensors: parameters and optimiser moments by name, and the step. No pickle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from harness.record import commit_folder, read_json, write_json

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SCALARS = "__scalar__"


def save_checkpoint(folder: Path, step: int, fingerprint: str, model: nn.Module, optimizer: Any, keep: int) -> None:
    """Write checkpoints/step-N (whole or not at all) and delete all but the newest `keep`."""
    state: tuple[Any, Any] = get_state_dict(model, optimizer, options=_FULL)
    weights, moments = state
    tensors, scalars = _flatten(moments)
    with commit_folder(folder / f"step-{step:08d}") as temporary:
        # Tied parameters appear under both names; safetensors wants storage of its own for each.
        save_file(
            {name: tensor.clone().contiguous() for name, tensor in weights.items()},
            temporary / "model.safetensors",
        )
        save_file(tensors, temporary / "optimizer.safetensors")
        write_json(temporary / "state.json", {"step": step, "fingerprint": fingerprint, "optimizer": scalars})
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path, fingerprint: str, model: nn.Module, optimizer: Any) -> tuple[int, list[str]]:
    """Restore the newest usable checkpoint.

    Returns:
        The number of steps done (0: nothing to restore), and a line for each checkpoint that was refused.
    """
    refused: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return _load(path, fingerprint, model, optimizer), refused
        except (OSError, ValueError, SafetensorError, KeyError) as error:
            refused.append(f"checkpoint {path} refused: {error}")
    return 0, refused


def _load(path: Path, fingerprint: str, model: nn.Module, optimizer: Any) -> int:
    state = read_json(path / "state.json")
    if state["fingerprint"] != fingerprint:
        raise ValueError("it belongs to other settings")
    weights: Any = load_file(path / "model.safetensors")
    moments = _unflatten(load_file(path / "optimizer.safetensors"), state["optimizer"])
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=_FULL)
    return int(state["step"])


def _flatten(moments: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Optimiser state as (tensors by "parameter|name", everything that is not a tensor)."""
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {"groups": moments["param_groups"], _SCALARS: {}}
    for parameter, entries in moments["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{parameter}|{name}"] = value.clone().contiguous()
            else:
                scalars[_SCALARS][f"{parameter}|{name}"] = value
    return tensors, scalars


def _unflatten(tensors: dict[str, torch.Tensor], scalars: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, dict[str, Any]] = {}
    for key, value in {**tensors, **scalars[_SCALARS]}.items():
        parameter, name = key.rsplit("|", 1)
        state.setdefault(parameter, {})[name] = value
    return {"state": state, "param_groups": scalars["groups"]}
