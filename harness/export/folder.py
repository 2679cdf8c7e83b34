"""The files of an exported model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from harness.config import Config, parse
from harness.export.card import model_card
from harness.record import commit_folder, read_json, write_json, write_text


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
            save_merged(config, run / "model", temporary)
        else:
            shutil.copytree(run / "model", temporary, dirs_exist_ok=True)
        if adapter and not merge:
            _name_base(temporary / "adapter_config.json", config)
        kind = "merged" if merge else "adapter" if adapter else "full"
        provenance = read_json(run / "provenance.json")
        write_text(temporary / "README.md", model_card(config, summary, provenance, kind, licence))


def save_merged(config: Config, adapter: Path, folder: Path) -> None:
    """W + (alpha / rank) B A of every adapted layer, computed in float32 and saved in the base model's type.

    An adapter trained beside 4 bits (qlora) is merged into the unquantised base, which it has not seen: its
    outputs differ a little from those of base and adapter in training.
    """
    import torch
    from peft import PeftModel

    from harness.models.adapters import merge_adapters, peft_warnings
    from harness.models.load import load_model
    from harness.models.tokenizer import load_saved_tokenizer

    wide = config.model.model_copy(update={"dtype": "float32", "gradient_checkpointing": False})
    with peft_warnings():
        merged = merge_adapters(PeftModel.from_pretrained(load_model(wide, config.seed), adapter))
    merged.to(getattr(torch, config.model.dtype)).save_pretrained(folder)
    load_saved_tokenizer(adapter).save_pretrained(folder)


def _read(run: Path) -> tuple[Config, dict[str, Any]]:
    if not (run / "done").exists() or not (run / "summary.json").exists():
        raise ValueError(f"{run}: not a finished run (no done and summary.json)")
    if not (run / "model").is_dir():
        raise ValueError(f"{run}: no weights in it (no model/): train with train.keep_model=true")
    return parse(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))), read_json(run / "summary.json")


def _name_base(path: Path, config: Config) -> None:
    """Name the base model by its place on the Hub instead of by a path of this machine."""
    settings = read_json(path)
    settings["base_model_name_or_path"] = config.model.hub_id or config.model.name
    settings["revision"] = config.model.revision
    write_json(path, settings)
