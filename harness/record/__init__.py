"""What a run leaves: its identity, folder, W&B copy, provenance and failures."""

from harness.record.files import (
    commit_folder,
    read_json,
    read_mapping,
    read_settings,
    whole_text,
    write_json,
    write_text,
)
from harness.record.folder import METRICS, RunBusy, RunFolder

__all__ = [
    "METRICS",
    "RunBusy",
    "RunFolder",
    "commit_folder",
    "read_json",
    "read_mapping",
    "read_settings",
    "whole_text",
    "write_json",
    "write_text",
]
