"""What every benchmark needs: the machine in words, interleaved timing, medians with their spread, Markdown."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


def machine() -> str:
    """One line: date, processor, cores, memory, accelerator, library versions and commit."""
    cpuinfo = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    features = [name for name in ("avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(name)]
    return (
        f"{datetime.date.today()}; {model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB"
        f"{''.join(f', {feature}' for feature in features)}; {gpu}; Python {platform.python_version()}, {libraries}; "
        f"commit {commit()}"
    )


def commit() -> str:
    """The checked-out commit, with a + where tracked files were changed; "none" outside git."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "none"


def installed(package: str) -> str | None:
    """Version of a package, None where it is not installed."""
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


def matmul_rate(dtype: torch.dtype, rows: int = 1152, inner: int = 576, columns: int = 1536) -> float:
    """FLOP/s of this machine for a linear layer forward and backward, the best of 20: the ceiling of training."""
    x, weight, gradient = (torch.randn(shape).to(dtype) for shape in ((rows, inner), (columns, inner), (rows, columns)))

    def layer() -> None:
        x @ weight.T
        gradient @ weight
        gradient.T @ x

    seconds = interleaved({"layer": layer}, repeats=20)["layer"]
    return 6 * rows * inner * columns / min(seconds)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median with the lowest and highest value."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f}" if low == high else f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
