"""Tensors in safetensors files, in shards or whole: each process writes what it holds and reads the rows it holds.

The numbers of processes that wrote and that read are independent of each other. Files of whole tensors, a published
model's for example, are read in the same way: their one piece begins at row 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from harness.record.files import sync

Piece = tuple[int, Any]  # the row of the whole tensor at which it begins, the open file that holds it


def pieces_of(tensors: Mapping[str, Tensor], rank: int) -> dict[str, tuple[Tensor, int]]:
    """Copies in main memory of this process's pieces, and the row at which each begins; whole tensors by rank 0.

    Copies, because tied tensors appear under several names, and safetensors wants storage of its own for each; and
    because training goes on while they are written.
    """
    pieces = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor) or rank == 0:
            local, start = local_rows(tensor)
            copy = torch.empty(local.shape, dtype=local.dtype, device="cpu")
            pieces[name] = (copy.copy_(local.detach()), start)
    return pieces


def write_pieces(pieces: Mapping[str, tuple[Tensor, int]], path: Path) -> bool:
    """Write `pieces_of` to a file, first rows in its metadata; False where there are none, and no file is written."""
    if not pieces:  # safetensors cannot read a file without tensors
        return False
    tensors = {name: tensor for name, (tensor, _) in pieces.items()}
    save_file(tensors, path, metadata={name: str(start) for name, (_, start) in pieces.items()})
    sync(path)
    return True


@contextmanager
def open_pieces(files: Sequence[Path]) -> Iterator[dict[str, list[Piece]]]:
    """The pieces in the files by name; nothing is read but the headers."""
    found: dict[str, list[Piece]] = {}
    with ExitStack() as stack:
        for path in files:
            file = stack.enter_context(safe_open(path, framework="pt"))
            starts = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (no mapping)
                start = starts.get(name, "0")
                found.setdefault(name, []).append((int(start), file))
        yield found


def read_pieces(files: Sequence[Path], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, with the shapes, shards and devices of `like`.

    Raises:
        ValueError: a tensor or some of its rows are in none of the files.
        SafetensorError: a file is damaged.
    """
    with open_pieces(files) as found:
        return {name: _assembled(name, tensor, found.get(name, [])) for name, tensor in like.items()}


@torch.no_grad()
def fill(files: Sequence[Path], tensors: Mapping[str, Tensor]) -> None:
    """Read into tensors that are there, one after the other: of sharded ones the rows that this process holds.

    Raises:
        ValueError: as `read_pieces`.
        SafetensorError: a file is damaged.
    """
    with open_pieces(files) as found:
        for name, tensor in tensors.items():
            local, start = local_rows(tensor)
            local.copy_(_rows(name, local, start, found.get(name, [])))


def _assembled(name: str, like: Tensor, pieces: list[Piece]) -> Tensor:
    local, start = local_rows(like)
    return _like(_rows(name, local, start, pieces).to(local.device), like)


def _rows(name: str, like: Tensor, start: int, pieces: list[Piece]) -> Tensor:
    """The rows from `start` on that `like` holds, in main memory and its type."""
    read = torch.empty(like.shape, dtype=like.dtype, device="cpu")
    if not like.ndim:
        missing = not pieces
        read = pieces[0][1].get_tensor(name) if pieces else read
    else:
        missing = len(like) != sum(_copy_rows(name, read, start, piece, file) for piece, file in pieces)
    if missing:
        raise ValueError(f"{name}: some of its rows are missing")
    return read


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


def local_rows(tensor: Tensor) -> tuple[Tensor, int]:
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
