"""A power cut for real: ext4 in a file, shut down without its caches reaching the disk, and mounted again."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.record import RunFolder, commit_folder, read_json, write_json
from harness.train.checkpoint import load_checkpoint, save_checkpoint

_EXT4_IOC_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2  # include/uapi/linux/ext4.h


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A file system, and the function that cuts its power and starts it again."""
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    tools = shutil.which("mkfs.ext4") and shutil.which("mount")
    if not tools or subprocess.run(["mkfs.ext4", "-q", "-F", image], capture_output=True, check=False).returncode:
        pytest.skip("needs mkfs.ext4")
    mount = ["mount", "-o", "loop", image, place]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is forbidden here")

    def cut() -> None:
        descriptor = os.open(place, os.O_RDONLY)
        fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        os.close(descriptor)
        subprocess.run(["umount", place], check=True)
        subprocess.run(mount, check=True)

    try:
        yield place, cut
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(300)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_what_was_finished_before_a_power_cut_is_whole_after_it(disk: tuple[Path, Callable[[], None]]) -> None:
    place, cut = disk
    folder = RunFolder(place / "run")
    write_json(folder / "summary.json", {"was": "old"})
    with commit_folder(folder / "model") as inside:
        (inside / "weights").write_bytes(b"w" * 1_000_000)
        (inside / "sub").mkdir()
        (inside / "sub" / "config").write_text("c" * 10_000)
    model, optimizer = trained()
    save_checkpoint(folder / "checkpoints", 7, "print", model, optimizer, 2, {"tokens": 9})
    folder.complete("train", "print", 1.0, "finished", {"train/loss": 2.0})
    write_json(folder / "summary.json", {"was": "new"})
    (place / "careless").write_bytes(b"x" * 100_000)
    cut()
    assert not (place / "careless").exists() or (place / "careless").read_bytes() != b"x" * 100_000  # the cut was one
    assert read_json(folder / "summary.json") == {"was": "new"}
    assert (folder / "model" / "weights").read_bytes() == b"w" * 1_000_000
    assert (folder / "model" / "sub" / "config").read_text() == "c" * 10_000
    assert folder.is_complete("train", "print")
    other, moments = nn.Linear(300, 300), None
    moments = torch.optim.AdamW(other.parameters())
    resumed = load_checkpoint(folder / "checkpoints", "print", other, moments)
    assert (resumed.step, resumed.counts, resumed.refused) == (7, {"tokens": 9}, [])
    assert torch.equal(other.weight, model.get_parameter("weight"))
