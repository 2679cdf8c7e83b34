"""What `harness doctor` reports on this machine: Python and packages, processor, memory, GPUs, disk."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.commands.doctor import Finding

_OLDEST, _NEWEST = (3, 11), (3, 13)
_PACKAGES = ("torch", "transformers", "accelerate", "hydra-core", "omegaconf", "pydantic", "wandb", "pandas")
_GIB = 2**30
# Less memory cannot train a model of a billion parameters; less disk cannot hold the models of a sweep.
_LITTLE_MEMORY, _LITTLE_DISK, _NO_DISK = 6, 10, 1


def software() -> Iterator[Finding]:
    """Python, the harness, its packages."""
    from harness.config.arguments import version as ours

    running = platform.python_version()
    known = _OLDEST <= sys.version_info[:2] <= _NEWEST
    supported = f"{'.'.join(map(str, _OLDEST))} to {'.'.join(map(str, _NEWEST))}"
    yield Finding("ok" if known else "warn", "python", running, "" if known else f"tested with {supported}")
    yield Finding("ok", "harness", f"{ours()}, {platform.platform()}")
    found = {name: _version(name) for name in _PACKAGES}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        yield Finding("fail", "packages", f"{', '.join(missing)} not installed", "pip install 'noise-harness[run]'")
    else:
        yield Finding("ok", "packages", ", ".join(f"{name} {number}" for name, number in found.items()))
    from harness.system.versions import check_versions

    try:
        check_versions()
    except ValueError as error:
        yield Finding("fail", "packages", str(error))


def hardware() -> Iterator[Finding]:
    """Processor, memory, GPUs."""
    from harness.record.provenance import hardware as measured

    try:
        found = measured()
    except ImportError:
        return  # torch is missing, as `software` has reported
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else found["cores"]
    yield Finding("ok", "processor", f"{found['cpu'] or 'unknown'}, {usable} of {found['cores']} cores")
    memory = found["memory_gib"]
    little = memory < _LITTLE_MEMORY
    yield Finding("warn" if little else "ok", "memory", f"{memory} GiB", "small models only" if little else "")
    if found["gpus"]:
        yield Finding("ok", "gpu", ", ".join(found["gpus"]))
    elif shutil.which("nvidia-smi"):
        advice = "a torch built for CUDA, or CUDA_VISIBLE_DEVICES hides the GPU (docs/gpu.md)"
        yield Finding("fail", "gpu", f"the driver is there and torch {_version('torch')} sees no GPU", advice)
    else:
        yield Finding("ok", "gpu", "none: the defaults run on the processor")


def disk(config: Any, network: bool) -> Iterator[Finding]:
    """Space and permissions for runs and the cache."""
    del network
    from harness.record.cache import cache_dir

    for what, path in (("output_dir", Path(config.output_dir).expanduser()), ("cache", cache_dir())):
        nearest = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
        if not os.access(nearest, os.W_OK):
            key = "output_dir=FOLDER" if what == "output_dir" else "NOISE_HARNESS_CACHE"
            yield Finding("fail", what, f"{path}: {nearest} cannot be written", f"set {key}")
            continue
        free = shutil.disk_usage(nearest).free / _GIB
        state, advice = ("ok", "") if free >= _LITTLE_DISK else ("warn", "train.keep_model=false keeps no weights")
        if free < _NO_DISK:
            state, advice = "fail", "make room"
        yield Finding(state, what, f"{path}: {free:.0f} GiB free", advice)  # type: ignore[arg-type]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
