"""Tensors in shards: each process writes its own as safetensors, any number of processes reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor


def write_pieces(tensors: Mapping[str, Tensor], path: Path, rank: int) -> None:
    """Write this process's pieces, the row at which each begins in the file's metadata; whole tensors by rank 0."""
    pieces: dict[str, Tensor] = {}
    starts: dict[str, str] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor) or rank == 0:
            local, start = _local(tensor)
            # A copy: tied tensors appear under several names, and safetensors wants storage of its own for each.
            pieces[name], starts[name] = local.detach().cpu().clone().contiguous(), str(start)
    if pieces:  # safetensors cannot read a file without tensors
        save_file(pieces, path, metadata=starts)


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
        raise ValueError(f"{name}: not all of it is there")
    return _like(read.to(local.device), like)


def _copy_rows(name: str, into: Tensor, start: int, piece_start: int, file: Any) -> int:
    """Copy the rows that a piece shares with `into`, which begins at row `start`; their number."""
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
    assert len(local) == min(chunk, rows - start), "sharded otherwise than fully_shard does"
    return local, start


def _like(local: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return local
    return DTensor.from_local(
        local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
