"""The causal language model and its tokenizer: built from a config, or read from a folder, a GGUF file or the Hub."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from harness.config import ModelConfig, TinyArchitecture
from harness.identity import path_fingerprint, resolve_path
from harness.record import commit_folder

disable_progress_bar()  # the run shows its own

ASSETS = Path(__file__).parent / "assets"


@cache
def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The model's tokenizer.

    Raises:
        ValueError: the folder holds no tokenizer, or it has no end-of-text token (answers would never stop).
    """
    if config.architecture is not None:
        tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny_tokenizer")
    else:
        source, revision = _source(config)
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        except (OSError, ValueError) as error:
            raise ValueError(f"model={config.name}: no tokenizer in {source}: {error}") from error
    if tokenizer.eos_token_id is None:
        raise ValueError(f"model={config.name}: the tokenizer has no end-of-text token")
    return tokenizer


def load_model(config: ModelConfig, seed: int, weights: Path | None = None) -> PreTrainedModel:
    """The model on the CPU, in config.dtype; `weights`: a folder written by `save_model`, instead of the base model."""
    dtype = getattr(torch, config.dtype)
    if config.architecture is not None and weights is None:
        model = _build_llama(config.architecture, load_tokenizer(config), seed).to(dtype)
    else:
        source, revision = (str(weights), None) if weights else _source(config)
        model = AutoModelForCausalLM.from_pretrained(
            source, revision=revision, dtype=dtype, attn_implementation=config.attention, use_safetensors=True
        )
    vocabulary, rows = len(load_tokenizer(config)), model.get_input_embeddings().weight.shape[0]
    if vocabulary > rows:
        raise ValueError(f"model={config.name}: the tokenizer has {vocabulary} tokens, the embedding only {rows} rows")
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write weights (safetensors), config and tokenizer; the folder appears whole or not at all.

    Args:
        weights: whole ones where the model holds shards; None: the model's own.
    """
    with commit_folder(folder) as temporary:
        model.save_pretrained(temporary, state_dict=weights)
        tokenizer.save_pretrained(temporary)


def _build_llama(size: TinyArchitecture, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate_size,
        max_position_embeddings=size.max_positions,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        # Tokens of norm 1, as in trained models: against the usual initial 0.02 the papers' alpha would drown them.
        torch.nn.init.normal_(model.model.embed_tokens.weight, std=size.hidden_size**-0.5)
        return model


def _source(config: ModelConfig) -> tuple[str, str | None]:
    """Folder or Hub id, and revision. A GGUF file is converted once and then read from the cache."""
    if config.path is None:
        assert config.hub_id is not None
        return config.hub_id, config.revision
    path = resolve_path(config.path)
    return (str(_convert_gguf(path)) if path.suffix == ".gguf" else str(path)), None


def _convert_gguf(path: Path) -> Path:
    """Dequantise a GGUF file to a safetensors folder in the cache (20 s once, 0.3 s afterwards)."""
    folder = _cache_dir() / "gguf" / f"{path.stem}-{path_fingerprint(str(path))[:16]}"
    if folder.is_dir():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"model.path={path}: reading GGUF needs the extra: pip install 'noise-harness[gguf]'")
    from transformers import GgufConfig

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    # Without dequantize=True transformers refuses to save or train the model.
    model = AutoModelForCausalLM.from_pretrained(
        **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(**where)
    _restore_pre_tokenizer(tokenizer, path)
    save_model(model, tokenizer, folder)
    return folder


def _restore_pre_tokenizer(tokenizer: Any, path: Path) -> None:
    """Split digits one by one where the file names SmolLM's pre-tokenizer: the conversion loses it."""
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    field = GGUFReader(path).fields.get("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        digits = Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence([digits, ByteLevel(add_prefix_space=False)])


def _cache_dir() -> Path:
    base = os.environ.get("NOISE_HARNESS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "noise-harness"
    )
    return Path(base).expanduser()


def weights_hash(model: PreTrainedModel) -> str:
    """SHA-256 over all parameters and buffers, by name (hex): equal hashes, bitwise equal models."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
