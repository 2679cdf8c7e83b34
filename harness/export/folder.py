"""The files of an exported model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from harness.config import Config, parse
from harness.export.card import details, model_card
from harness.metrics.names import with_current_names
from harness.record import commit_folder, read_mapping, read_settings, write_json, write_text


def export(run: Path, folder: Path, merge: bool = False, licence: str | None = None) -> None:
    """Write `folder` from a finished run: weights (safetensors), tokenizer, README.md with the run's data and results.

    Raises:
        ValueError: not a finished run, no weights kept, nothing to merge, or `folder` exists.
    """
    config, summary = _read(run)
    if folder.exists():
        raise ValueError(f"{folder}: exists; give a new folder")
    adapter = (run / "model" / "adapter_config.json").exists()
    if merge and not adapter:
        raise ValueError(f"{run}: train.method={config.train.method} has whole weights already: leave out --merge")
    with commit_folder(folder.absolute()) as temporary:
        if merge:
            from harness.models.merge import save_merged

            save_merged(config.model, config.seed, run / "model", temporary)
        else:
            shutil.copytree(run / "model", temporary, dirs_exist_ok=True)
        if adapter and not merge:
            _name_base(temporary / "adapter_config.json", config)
        kind = "merged" if merge else "adapter" if adapter else "full"
        provenance = read_mapping(run / "provenance.json")
        write_text(temporary / "README.md", model_card(config, summary, kind, licence))
        write_text(temporary / "DETAILS.md", details(config, summary, provenance))
        write_json(temporary / "figures.json", summary["final"])


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the Hub, creating a private repository if there is none; return its address.

    Raises:
        OSError: no login, no permission or no network (the Hub's own errors).
        ValueError: a name that the Hub does not accept.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repository, private=True, exist_ok=True)
    return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Trained model and its card"))


def _read(run: Path) -> tuple[Config, dict[str, Any]]:
    if not (run / "done").exists() or not (run / "summary.json").exists():
        raise ValueError(f"{run}: not a finished run (no done and summary.json)")
    if not (run / "model").is_dir():
        raise ValueError(f"{run}: no weights in it (no model/): train with train.keep_model=true")
    config = parse(read_settings(run / "config.yaml"))
    summary = read_mapping(run / "summary.json")
    if not isinstance(summary.get("final"), dict):
        raise ValueError(f"{run / 'summary.json'}: key 'final': no final numbers in it")
    return config, summary | {"final": with_current_names(summary["final"])}


def _name_base(path: Path, config: Config) -> None:
    """Name the base model by its Hub id instead of a local path."""
    settings = read_mapping(path)
    settings["base_model_name_or_path"] = config.model.hub_id or config.model.name
    settings["revision"] = config.model.revision
    write_json(path, settings)
