"""Resumable training state as safetensors: parameters and optimiser state by name, and the step. No pickle.

Each process writes its shards (whole tensors only the first), and any number of processes can read the result.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from harness.models.shards.pieces import pieces_of, read_pieces, write_pieces
from harness.record import read_json, write_json
from harness.record.files import file_hash, replace_folder
from harness.system.nodes import await_file

T = TypeVar("T")

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


class Checkpoints:
    """Checkpoints of one training, written while it goes on: a save costs it the copy into main memory alone.

    Every process makes one and calls its methods; as a context manager it waits for what is being written when the
    block ends. One save is under way at a time. torch.distributed.checkpoint's async_save goes the same way (a copy, a
    thread, a process group of its own), but what it writes are pickles.
    """

    def __init__(self, folder: Path, fingerprint: str, keep: int, background: bool = True) -> None:
        """Prepare; nothing is written.

        Args:
            folder: of all checkpoints.
            fingerprint: of the settings.
            keep: checkpoints.
            background: write in a thread; otherwise `save` returns when all is on the disk.
        """
        self.folder, self.fingerprint, self.keep = folder, fingerprint, keep
        self.background = background
        # The thread's own: operations of one group must come in one order everywhere.
        several = distributed.is_initialized() and distributed.get_world_size() > 1
        self._group: Any = distributed.new_group(backend="gloo") if several else None
        self._writing: Thread | None = None
        self._failed: BaseException | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Who is told to leave at once does not wait: what is half written is taken for nothing by the next start.
        if kind is None or issubclass(kind, Exception):
            self._join()
        if kind is None:
            self.wait()

    def save(self, step: int, model: nn.Module, optimizer: Any, counts: Mapping[str, float] | None = None) -> None:
        """Write checkpoints/step-N (whole or not at all) and delete all but the newest `keep`.

        Once it is there it is on the disk: files and folders are synced, and state.json holds a checksum of each file.

        Args:
            step: steps done.
            model: as it is trained, perhaps in shards.
            optimizer: one or several.
            counts: of the meter (`harness.train.cost`).

        Raises:
            OSError: this save, or in the background the one before, could not be written.
        """
        self.wait()
        weights, tensors, scalars = _state(model, optimizer)
        if _rank() == 0:
            shutil.rmtree(self._temporary, ignore_errors=True)  # of an attempt that was killed
            self._temporary.mkdir(parents=True)
        state = {"step": step, "fingerprint": self.fingerprint, "counts": dict(counts or {}), "optimizer": scalars}
        files = {"model": pieces_of(weights, _rank()), "optimizer": pieces_of(tensors, _rank())}
        _wait_for_all()
        self._writing = Thread(target=self._write, args=(files, state), daemon=True)
        self._writing.start()
        if not self.background:
            self.wait()

    def wait(self) -> None:
        """Return when the last save is on the disk.

        Raises:
            OSError: it could not be written, by this process or another.
        """
        self._join()
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def _join(self) -> None:
        if self._writing is not None:
            self._writing.join()
            self._writing = None

    @property
    def _temporary(self) -> Path:
        return self.folder / ".next.tmp"

    def _write(self, files: dict[str, dict[str, tuple[Tensor, int]]], state: dict[str, Any]) -> None:
        """In the thread: what this process holds, and when all have written, the first gives it its name."""
        sums: dict[str, str] = {}
        failed: Exception | None = None
        try:
            for kind, pieces in files.items():
                path = self._temporary / f"{kind}-{_rank():05d}.safetensors"
                if write_pieces(pieces, path):
                    sums[path.name] = file_hash(path)
        except (OSError, SafetensorError) as error:
            failed = error
        try:
            reports = _from_all((sums, failed and str(failed)), self._group)
            if problems := [problem for _, problem in reports if problem]:
                raise failed or OSError(f"another process could not write its part of a checkpoint: {problems[0]}")
            if _rank() == 0:
                self._complete({**state, "sha256": dict(each for found, _ in reports for each in found.items())})
        except Exception as error:  # noqa: BLE001 (whatever it is, the main thread raises it)
            self._failed = error

    def _complete(self, state: dict[str, Any]) -> None:
        write_json(self._temporary / "state.json", state)
        replace_folder(self._temporary, self.folder / f"step-{state['step']:08d}")
        for old in sorted(self.folder.glob("step-*"))[: -self.keep]:
            shutil.rmtree(old)


def save_checkpoint(
    folder: Path,
    step: int,
    fingerprint: str,
    model: nn.Module,
    optimizer: Any,
    keep: int,
    counts: Mapping[str, float] | None = None,
) -> None:
    """`Checkpoints.save`, on the disk when this returns."""
    Checkpoints(folder, fingerprint, keep, background=False).save(step, model, optimizer, counts)


def load_checkpoint(folder: Path, fingerprint: str, model: nn.Module, optimizer: Any) -> Resumed:
    """Restore the newest checkpoint that every process can use; `optimizer` may be a list of several.

    The first process says which there are: another node's NFS may remember an older list.
    """
    refused: list[str] = []
    for name in _from_first([path.name for path in sorted(folder.glob("step-*"), reverse=True)]):
        path = folder / name
        problem, loaded = None, None
        try:
            if os.environ.get("GROUP_RANK", "0") != "0":  # torchrun's number of this node
                await_file(path / "state.json")
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


def _from_all(value: T, group: Any = None) -> list[T]:
    """The value of every process."""
    if not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value, group=group)
    return values


def _from_first(value: T) -> T:
    """The value of the first process."""
    if not distributed.is_initialized():
        return value
    values: list[Any] = [value]
    distributed.broadcast_object_list(values)
    first: T = values[0]
    return first
