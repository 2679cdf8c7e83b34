"""`python -m benchmarks.gpu [--cpu] [--out FILE] [NAME ...]`: run the checks, go on after a failure.

With --cpu they run at toy size on a CPU, which shows that they work but says nothing about a GPU. Exit status 1 if
anything was wrong or failed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.gpu import answers, kernels, machine, training
from benchmarks.gpu.setting import Finding, Setting

Check = Callable[[Setting], Iterator[Finding]]
CHECKS: list[Check] = [
    machine.versions,
    machine.visible_after_cuda,
    machine.precisions,
    kernels.kernels,
    kernels.packed_on_the_gpu,
    training.host_waits,
    training.noise_cost,
    training.loss_chunks,
    training.layer_rate,
    training.sharding,
    training.perturbed_offload,
    answers.engine,
    answers.hessian,
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="at toy size on the CPU: do the checks run?")
    parser.add_argument("--out", type=Path, help="also write what is printed to this file")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(each.__name__ for each in CHECKS))
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {each.__name__ for each in CHECKS}:
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    if not arguments.cpu and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --cpu runs the checks at toy size")
    chosen = [each for each in CHECKS if not arguments.names or each.__name__ in arguments.names]
    setting, wrong, lines = Setting(arguments.cpu), 0, []
    for check in chosen:
        for line, bad in run(check, setting):
            wrong += bad
            lines.append(line)
            print(line, flush=True)
    lines.append(f"\n{len(chosen)} checks, {wrong} findings wrong or failed")
    print(lines[-1])
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(wrong > 0)


def run(check: Check, setting: Setting) -> Iterator[tuple[str, bool]]:
    """Lines of one check, and whether each is of something wrong; an error is one of them."""
    yield f"\n## {check.__name__}", False
    started = time.perf_counter()
    try:
        for finding in check(setting):
            yield finding.line(), finding.good is False
    except Exception as error:  # noqa: BLE001 (whatever happens, the next check runs)
        where = traceback.format_exc(limit=-2).rstrip().replace("\n", "\n    ")
        yield f"  FAILED {type(error).__name__}: {' '.join(str(error).split())[:300]}\n    {where}", True
    setting.free()
    yield f"  ({time.perf_counter() - started:.0f} s)", False


if __name__ == "__main__":
    sys.exit(main())
