"""Resumable training state as safetensors: parameters and optimiser state by name, and the step. No pickle.

Each process writes its shards (whole tensors only the first), and any number of processes can read the result.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor

from harness.record import read_json, write_json
from harness.record.files import file_hash, replace_folder, sync

# Frozen parameters (the base of adapters) are not saved: on resuming they are loaded from the base model.
_OPTIONS = StateDictOptions(ignore_frozen_params=True)
_OPTIONS_OF_PART = StateDictOptions(ignore_frozen_params=True, strict=False)
_SCALARS = "__scalar__"


class Resumed(NamedTuple):
    """Where training resumes.

    Attributes:
        step: steps already done; 0 if there was nothing to restore.
        counts: state of the meter at that step.
        refused: a line for each checkpoint that could not be used.
    """

    step: int
    counts: Mapping[str, float]
    refused: list[str]


def save_checkpoint(
    folder: Path,
    step: int,
    fingerprint: str,
    model: nn.Module,
    optimizer: Any,
    keep: int,
    counts: Mapping[str, float] | None = None,
) -> None:
    """Write checkpoints/step-N (whole or not at all) and delete all but the newest `keep`; every process calls it.

    It is on the disk when this returns: files and folders are synced, and state.json holds a checksum of each file.

    Args:
        folder: the folder of all checkpoints.
        step: steps done.
        fingerprint: hash of the settings.
        model: as it is trained, possibly sharded.
        optimizer: one or several.
        keep: number of checkpoints to keep.
        counts: state of the meter (`harness.train.cost`).
    """
    weights, tensors, scalars = _state(model, optimizer)
    path, temporary = folder / f"step-{step:08d}", folder / ".next.tmp"
    rank = _rank()
    if rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a killed attempt
        temporary.mkdir(parents=True)
    _wait_for_all()
    write_pieces(weights, temporary / f"model-{rank:05d}.safetensors", rank)
    write_pieces(tensors, temporary / f"optimizer-{rank:05d}.safetensors", rank)
    _wait_for_all()
    if rank == 0:
        sums = {each.name: file_hash(each) for each in sorted(temporary.glob("*.safetensors"))}
        state = {"step": step, "fingerprint": fingerprint, "counts": dict(counts or {}), "sha256": sums}
        write_json(temporary / "state.json", {**state, "optimizer": scalars})
        replace_folder(temporary, path)
        for old in sorted(folder.glob("step-*"))[:-keep]:
            shutil.rmtree(old)
    _wait_for_all()


def load_checkpoint(folder: Path, fingerprint: str, model: nn.Module, optimizer: Any) -> Resumed:
    """Restore the newest checkpoint that every process can use; `optimizer` may be a list of several."""
    refused: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        problem, loaded = None, None
        try:
            loaded = _read(path, fingerprint, model, optimizer)
        except (OSError, ValueError, SafetensorError, KeyError) as error:
            problem = f"checkpoint {path} refused: {error}"
        problems = [each for each in _from_all(problem) if each is not None]
        if not problems:
            assert loaded is not None
            state, weights, moments = loaded
            part = not all(parameter.requires_grad for parameter in model.parameters())
            options = _OPTIONS_OF_PART if part else _OPTIONS
            set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=options)
            return Resumed(int(state["step"]), state["counts"], refused)
        refused.append(problems[0])
    # Asking an optimiser for its state has made it create one.
    for each in optimizer if isinstance(optimizer, list) else [optimizer]:
        each.state.clear()
    return Resumed(0, {}, refused)


def _read(path: Path, fingerprint: str, model: nn.Module, optimizer: Any) -> tuple[dict[str, Any], Any, Any]:
    """Read state.json, and weights and optimiser state in the shapes that this process holds."""
    state: dict[str, Any] = read_json(path / "state.json")
    if state["fingerprint"] != fingerprint:
        raise ValueError("it belongs to other settings")
    for name, expected in state["sha256"].items():
        if file_hash(path / name) != expected:
            raise ValueError(f"{name} is not what was written (its checksum differs)")
    weights, tensors, _ = _state(model, optimizer)
    weights = read_pieces(sorted(path.glob("model*.safetensors")), weights)
    tensors = read_pieces(sorted(path.glob("optimizer*.safetensors")), tensors)
    return state, weights, _unflatten(tensors, state["optimizer"])


def _state(model: nn.Module, optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights by name, optimiser state as (tensors by "parameter|name", everything that is not a tensor)."""
    state: tuple[Any, Any] = get_state_dict(model, optimizer, options=_OPTIONS)
    weights, moments = state
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {"groups": moments["param_groups"], _SCALARS: {}}
    for parameter, entries in moments["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{parameter}|{name}"] = value
            else:
                scalars[_SCALARS][f"{parameter}|{name}"] = value
    return weights, tensors, scalars


def _unflatten(tensors: dict[str, Tensor], scalars: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, dict[str, Any]] = {}
    for key, value in {**tensors, **scalars[_SCALARS]}.items():
        parameter, name = key.rsplit("|", 1)
        state.setdefault(parameter, {})[name] = value
    return {"state": state, "param_groups": scalars["groups"]}


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _wait_for_all() -> None:
    if distributed.is_initialized():
        distributed.barrier()


def _from_all(value: str | None) -> list[str | None]:
    """The value of every process."""
    if not distributed.is_initialized():
        return [value]
    values: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def write_pieces(tensors: Mapping[str, Tensor], path: Path, rank: int) -> None:
    """Write this process's pieces, with the first row of each in the file's metadata; whole tensors by rank 0."""
    pieces: dict[str, Tensor] = {}
    starts: dict[str, str] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor) or rank == 0:
            local, start = _local(tensor)
            # A copy: tied tensors appear under several names, and safetensors needs separate storage for each.
            pieces[name], starts[name] = local.detach().cpu().clone().contiguous(), str(start)
    if pieces:  # safetensors cannot read a file without tensors
        save_file(pieces, path, metadata=starts)
        sync(path)


def read_pieces(files: Sequence[Path], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, with the shapes, shards and devices of `like`.

    Raises:
        ValueError: a tensor or some of its rows are in none of the files.
        SafetensorError: a file is damaged.
    """
    found: dict[str, list[tuple[int, Any]]] = {}
    with ExitStack() as stack:
        for path in files:
            file = stack.enter_context(safe_open(path, framework="pt"))
            starts = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (no mapping)
                found.setdefault(name, []).append((int(starts.get(name, 0)), file))
        return {name: _assembled(name, tensor, found.get(name, [])) for name, tensor in like.items()}


def _assembled(name: str, like: Tensor, pieces: list[tuple[int, Any]]) -> Tensor:
    local, start = _local(like)
    read = torch.empty_like(local, device="cpu")
    if not local.ndim:
        missing = not pieces
        read = pieces[0][1].get_tensor(name) if pieces else read
    else:
        missing = len(local) != sum(_copy_rows(name, read, start, piece, file) for piece, file in pieces)
    if missing:
        raise ValueError(f"{name}: some of its rows are missing")
    return _like(read.to(local.device), like)


def _copy_rows(name: str, into: Tensor, start: int, piece_start: int, file: Any) -> int:
    """Copy the rows that a piece shares with `into`, which begins at row `start`; return their number."""
    piece = file.get_slice(name)
    shape = piece.get_shape()
    if list(into.shape[1:]) != shape[1:]:
        raise ValueError(f"{name}: rows of {shape[1:]}, expected {list(into.shape[1:])}")
    first, last = max(start, piece_start), min(start + len(into), piece_start + shape[0])
    if first >= last:
        return 0
    into[first - start : last - start] = piece[first - piece_start : last - piece_start]
    return last - first


def _local(tensor: Tensor) -> tuple[Tensor, int]:
    """This process's rows of a tensor and the number of the first; FSDP2 cuts rows into equal chunks, rounded up."""
    if not isinstance(tensor, DTensor):
        return tensor, 0
    local, rows, ranks = tensor.to_local(), tensor.shape[0], tensor.device_mesh.size()
    chunk = -(-rows // ranks)
    start = min(tensor.device_mesh.get_local_rank() * chunk, rows)
    assert len(local) == min(chunk, rows - start), "not sharded the way fully_shard does"
    return local, start


def _like(local: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return local
    return DTensor.from_local(
        local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
