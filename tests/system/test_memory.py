from __future__ import annotations

import platform
import resource

import pytest
import torch

from harness.system.memory import retain_freed_memory

MIB = 2**20


def page_faults(mebibytes: int) -> float:
    """MiB of pages that the kernel gives while a tensor is made and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(mebibytes * MIB // 4).add_(1)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / MIB


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told to keep memory")
def test_the_next_step_gets_the_memory_of_the_last_and_the_system_gets_it_back() -> None:
    with retain_freed_memory():
        page_faults(256)
        assert page_faults(255) < 25  # a little smaller, because an aligned block needs a little more than its size
        inside = resident_bytes()
    assert resident_bytes() < inside - 128 * MIB
    page_faults(256)
    assert page_faults(255) > 128 or _huge_pages()


def _huge_pages() -> bool:
    """With huge pages for everybody one fault is 2 MiB, so faults say nothing about bytes."""
    with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as file:
        return "[always]" in file.read()
