"""Where a model comes from: a folder, a GGUF file (converted once into the cache) or the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.config import ModelConfig
from harness.config.paths import resolve_path
from harness.models.save import save_model
from harness.models.weights import refuse_incomplete
from harness.record.cache import cache_dir, one_maker
from harness.record.content import path_fingerprint
from harness.system.packages import require_package


def source_of(config: ModelConfig) -> tuple[str, str | None]:
    """Folder or Hub id, and revision. A GGUF file is converted once and then read from the cache."""
    if config.path is None:
        assert config.hub_id is not None
        return config.hub_id, config.revision
    path = resolve_path(config.path)
    return (str(converted_gguf(path)) if path.suffix == ".gguf" else str(path)), None


def converted_gguf(path: Path) -> Path:
    """Dequantise a GGUF file to a safetensors folder in the cache (20 s once, 0.3 s afterwards)."""
    folder = cache_dir() / "gguf" / f"{path.stem}-{path_fingerprint(str(path))[:16]}"
    with one_maker(folder):
        if not folder.is_dir():
            _convert(path, folder)
    return folder


def _convert(path: Path, folder: Path) -> None:
    require_package("gguf", f"model.path={path}", "gguf")
    from transformers import GgufConfig

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    # Without dequantize=True transformers refuses to save or train the model.
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        **where,
        output_loading_info=True,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        trust_remote_code=False,
    )
    model, info = loaded
    refuse_incomplete(model, info, f"model.path={path}")
    tokenizer: Any = AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
    _restore_pre_tokenizer(tokenizer, path)
    save_model(model, tokenizer, folder)


def _restore_pre_tokenizer(tokenizer: Any, path: Path) -> None:
    """Split digits one by one if the file names SmolLM's pre-tokenizer, which the conversion loses."""
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    field = GGUFReader(path).fields.get("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        digits = Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence([digits, ByteLevel(add_prefix_space=False)])
