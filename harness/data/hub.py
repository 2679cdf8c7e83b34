"""Files of a data set on the Hub: from the local cache, or downloaded at a pinned commit if allowed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.config import DatasetConfig, EvalSetConfig

HubSource = DatasetConfig | EvalSetConfig


def hub_files(config: HubSource) -> list[Path]:
    """The data set's files in the Hub's local cache, downloaded where they are missing.

    Raises:
        ValueError: a file is missing and offline=true, or cannot be fetched; says what to get and how.
    """
    return [cached_file(config, name) or _download(config, name) for name in config.hub_files]


def cached_file(config: HubSource, name: str) -> Path | None:
    """A file of the pinned commit in the local cache, if it is there; asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    assert config.hub_id is not None
    found = try_to_load_from_cache(config.hub_id, name, revision=config.revision, repo_type="dataset")
    return Path(found) if isinstance(found, str) else None


def is_offline() -> bool:
    """Whether offline=true was given (`go_offline`), or the Hub's own variable is set."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def go_offline() -> None:
    """Keep this process and its children from fetching data, models or tokenizers from the Hub."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def _download(config: HubSource, name: str) -> Path:
    from huggingface_hub import constants, hf_hub_download

    assert config.hub_id is not None
    if is_offline():
        raise ValueError(f"{_missing(config, name)} and offline is set; {_how_to_get(config)}")
    print(f"{_missing(config, name)}: downloading it from {constants.ENDPOINT}", file=sys.stderr)
    try:
        return Path(hf_hub_download(config.hub_id, name, revision=config.revision, repo_type="dataset"))
    # The library's errors (no such repository, gated, no connection) are kinds of OSError and ValueError.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{_missing(config, name)} and cannot be fetched: {reason}; {_how_to_get(config)}") from error


def _missing(config: HubSource, name: str) -> str:
    from huggingface_hub import constants

    commit = (config.revision or "")[:10]
    return (
        f"{_group(config)}={config.name}: {config.hub_id}@{commit} {name} is not in the cache {constants.HF_HUB_CACHE}"
    )


def _how_to_get(config: HubSource) -> str:
    files = " ".join(config.hub_files)
    command = f"hf download --repo-type dataset --revision {config.revision} {config.hub_id} {files}"
    instead = f"or give the file as {_group(config)}.path=FILE"
    return f"where there is a network: {command}; then copy that cache here, {instead}"


def _group(config: HubSource) -> str:
    return "dataset" if isinstance(config, DatasetConfig) else "eval_set"
