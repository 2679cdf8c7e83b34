"""Helpers for all benchmarks: a description of the machine, interleaved timing, medians with spread, Markdown."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from harness.config import Config

ROOT = Path(__file__).parents[1]


def machine() -> str:
    """One line: date, processor, cores, memory, accelerator, library versions and commit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    units = "".join(f", {unit}" for unit in bfloat16_units())
    return (
        f"{datetime.date.today()}; {processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB{units}; "
        f"{gpu}; Python {platform.python_version()}, {libraries}; commit {commit()}"
    )


def processor() -> str:
    """Its name and, where the system gives one, the number of its model: several generations share a name."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return platform.processor() or platform.machine()
    listed = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in listed.items()}
    number = (
        f" (family {named['cpu family']}, model {named['model']})" if {"cpu family", "model"} <= named.keys() else ""
    )
    return f"{named.get('model name', platform.machine())}{number}"


def bfloat16_units() -> list[str]:
    """What the processor has for products in bfloat16; a virtual machine may hide some."""
    return [name for name in ("avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(name)]


def commit() -> str:
    """The checked-out commit, with a + where tracked files were changed; "none" outside git."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "none"


@contextmanager
def tree_of(commit_or_folder: str) -> Iterator[Path]:
    """Another state of this project: a folder that holds it, or the files of a commit while the block lasts."""
    if Path(commit_or_folder).is_dir():
        yield Path(commit_or_folder).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "tree.tar"
        subprocess.run(["git", "archive", "--output", archive, commit_or_folder], cwd=ROOT, check=True)
        with tarfile.open(archive) as files:
            files.extractall(Path(folder) / "tree", filter="data")
        yield Path(folder) / "tree"


def environment_of(tree: Path, scratch: Path, **more: str) -> dict[str, str]:
    """Variables to run a tree as it is installed for users: its code compiled once, a cache of its own.

    Args:
        tree: a state of this project.
        scratch: a folder for both, the same for all commands of that tree.
        more: further variables.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    places = {"PYTHONPYCACHEPREFIX": str(scratch / "compiled"), "NOISE_HARNESS_CACHE": str(scratch / "cache")}
    return {**kept, "PYTHONPATH": str(tree), **places, **more}


def composed(*overrides: str) -> Config:
    """The settings that `python -m harness OVERRIDES` would run with."""
    from harness.config.compose import compose
    from harness.pipeline.plan import config_from

    return config_from(compose(overrides))


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Add a raw measurement to a file of JSON lines, with the time and the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"at": now, "machine": machine(), **line}) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The raw measurements of such a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def installed(package: str) -> str | None:
    """Version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def both_orders(names: Sequence[str], repeats: int) -> Iterable[str]:
    """Each name `repeats` times, forwards and backwards in turn: drift of the machine hits all alike."""
    for repeat in range(repeats):
        yield from names if repeat % 2 == 0 else reversed(names)


def interleaved(functions: dict[str, Callable[[], object]], repeats: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each call, `repeats` of each function, interleaved in both orders in this process."""
    for function in functions.values():
        for _ in range(warmup):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for name in both_orders(list(functions), repeats):
        start = time.perf_counter()
        functions[name]()
        seconds[name].append(time.perf_counter() - start)
    return seconds


def matmul_rate(
    dtype: torch.dtype, rows: int = 1152, inner: int = 576, columns: int = 1536, fast: bool = False
) -> float:
    """FLOP/s of this machine for a linear layer forward and backward, the best of 20: the ceiling of training.

    By torch's own products, or with `fast` by those of harness/models/onednn.py.
    The shapes are those of SmolLM2-135M's MLP with a CPU's micro-batch; a GPU gets larger ones.
    """
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        rows, inner, columns = 8192, 4096, 4096
    from harness.models.onednn import product

    shapes = ((rows, inner), (columns, inner), (rows, columns))
    x, weight, gradient = (torch.randn(shape, device="cuda" if on_gpu else "cpu").to(dtype) for shape in shapes)

    multiply = product if fast else _product

    def layer() -> None:
        multiply(x, weight)
        multiply(gradient, weight.T)
        multiply(gradient.T, x.T)
        if on_gpu:
            torch.cuda.synchronize()

    seconds = interleaved({"layer": layer}, repeats=20)["layer"]
    return 6 * rows * inner * columns / min(seconds)


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b.T


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median with the lowest and highest value."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f}" if low == high else f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
