"""Where a result came from: code, command, versions, hardware."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.record.secrets import SECRET_FILES, redact, redact_code

_PACKAGES = (
    "noise-harness",
    "torch",
    "transformers",
    "accelerate",
    "tokenizers",
    "datasets",
    "peft",
    "wandb",
    "numpy",
)
_MAX_DIFF_CHARACTERS = 200_000


def provenance(keep_diff: bool = False) -> dict[str, Any]:
    """Git commit and uncommitted changes of the code, command line, package versions and hardware.

    Args:
        keep_diff: store the changes as text, with known forms of secrets redacted. Otherwise only the names of the
            changed files and the text's SHA-256: no filter knows every form of a secret.
    """
    root = Path(__file__).parents[2]
    return {
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": as_typed([redact(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:])]),
        "git": code(root, keep_diff),
        "python": platform.python_version(),
        "versions": _versions(),
        "hardware": hardware(),
    }


def as_typed(words: Sequence[str]) -> list[str]:
    """A command as one types it, word by word; older records have "__main__.py" for `python -m harness`."""
    program, *arguments = words
    typed = "python -m harness" if program == "__main__.py" else program
    return [*(typed.split() if typed.startswith("python -m ") else [typed]), *arguments]


# What can change a result between two starts of a run.
_DECIDES = ("git", "python", "versions", "hardware", "files")


def with_history(earlier: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """The latest start at the top level, earlier ones under `history`, oldest first."""
    if not earlier:
        return {**now, "history": []}
    before = {key: value for key, value in earlier.items() if key != "history"}
    return {**now, "history": [*earlier.get("history", []), before]}


def changes(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two starts of a run, one line each: code, versions, machine, files."""
    before, after = ({key: start.get(key) for key in _DECIDES} for start in (earlier, now))
    flat_before, flat_after = dict(_flat(before)), dict(_flat(after))
    keys = [key for key in {**flat_before, **flat_after} if flat_before.get(key) != flat_after.get(key)]
    return [f"{key}: {_shown(flat_before.get(key))} -> {_shown(flat_after.get(key))}" for key in keys]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _shown(value: Any) -> str:
    """A value for display: a hash by its first characters, a diff only as different."""
    text = "none" if value in (None, "") else str(value)
    return text if len(text) <= 60 else f"{text[:12]}... ({len(text)} characters)"


def code(root: Path, keep_diff: bool = False) -> dict[str, Any]:
    """Commit of a checkout, the names of changed files (JSON list) and the hash, or the text, of their changes."""
    changed = [redact(name) for name in _changes(root, "--name-only", "-z").split("\0") if name]
    found: dict[str, Any] = {"commit": _git(root, "rev-parse", "HEAD"), "changed": changed}
    if changed:
        diff = _changes(root)
        found["diff_sha256"] = hashlib.sha256(diff.encode("utf-8", errors="surrogatepass")).hexdigest()
        if keep_diff:
            found["diff"] = redact_code(diff)[:_MAX_DIFF_CHARACTERS]
    return found


def _changes(root: Path, *options: str) -> str:
    """Uncommitted changes of tracked files, except files that git ignores or whose names suggest secrets."""
    ignored = _git(root, "ls-files", "-z", "--cached", "--ignored", "--exclude-standard").split("\0")
    skipped = [f":(exclude,top,literal){name}" for name in ignored if name]
    return _git(root, "diff", "--no-ext-diff", *options, "HEAD", "--", ".", *SECRET_FILES, *skipped)


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command on the code's own checkout; empty for an installed wheel."""
    if not (root / ".git").exists():
        return ""
    try:
        result = subprocess.run(
            ["git", "-C", root, *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory (GiB) and GPUs of this machine."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "memory_gib": round(memory, 1), "gpus": gpus}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
