"""The record of a failed run: the traceback in its log, the reason in `failed`, with advice if there is any."""

from __future__ import annotations

import errno
import json
import sys
import traceback

from harness.config import Config
from harness.record import RunFolder, write_text
from harness.record.secrets import redact

_CPU_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")


def record_failure(folder: RunFolder, error: Exception, config: Config) -> str:
    """Record the failure and return it as text, which on a full disk is all there is."""
    message = redact(f"{type(error).__name__}: {error}{_advice(error, config)}")
    try:
        folder.log("failed\n" + "".join(traceback.format_exception(error)) + message)
        reason = {"type": type(error).__name__, "message": redact(f"{error}{_advice(error, config)}")}
        write_text(folder / "failed", json.dumps(reason) + "\n")
    except OSError as unwritable:
        print(f"warning: {folder.path}: the failure could not be recorded: {unwritable}", file=sys.stderr)
    # The frames hold the model and its gradients, whose memory the next run of a sweep needs.
    traceback.clear_frames(error.__traceback__)
    return message


def _advice(error: Exception, config: Config) -> str:
    if is_out_of_memory(error):
        less = [
            f"train.micro_batch_tokens (now {config.train.micro_batch_tokens}) or generate.batch_size "
            f"(now {config.generate.batch_size}) lower",
            *(["train.pair_mode=sequential"] if config.train.pair_mode == "concat" else []),
            *([] if config.model.gradient_checkpointing else ["model.gradient_checkpointing=true"]),
            *([] if config.train.sharding == "fsdp" else ["train.sharding=fsdp with more train.devices"]),
        ]
        return f"; out of memory: try {', '.join(less)}"
    if is_full_disk(error):
        return "; the disk is full: free some space, then repeat the command to continue from the last checkpoint"
    return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the machine, whoever reported it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _CPU_MEMORY)


def is_full_disk(error: BaseException) -> bool:
    """Whether the disk was full, also as reported by safetensors, which raises its own error."""
    return "No space left on device" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
