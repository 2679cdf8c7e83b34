"""The causal language model and its tokenizer: built from a config, or read from a folder, a GGUF file or the Hub."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from harness.config import LoRAConfig, ModelConfig, TinyArchitecture
from harness.models.adapters import adapter_base, for_inference, is_adapted, peft_warnings
from harness.models.meta import ASSETS, published_config, tiny_llama
from harness.record import commit_folder
from harness.record.cache import cache_dir
from harness.record.identity import path_fingerprint, resolve_path

disable_progress_bar()  # the run shows its own


@cache
def positions(config: ModelConfig) -> int | None:
    """Tokens that a sequence of the model may have; None: no limit.

    Raises:
        ValueError: there is no config, or the tokenizer has more tokens than it gives the embedding rows.
    """
    found = published_config(config) if config.architecture is not None else None
    if found is None:
        source, revision = _source(config)
        try:
            found = AutoConfig.from_pretrained(source, revision=revision)
        except (OSError, ValueError) as error:
            raise ValueError(f"model={config.name}: no config in {source}: {error}") from error
    text = found.get_text_config()
    _check_vocabulary(config, text.vocab_size)
    limit: int | None = getattr(text, "max_position_embeddings", None)
    return limit


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
    return with_end(tokenizer, f"model={config.name}")


def load_saved_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that `save_model` wrote beside the weights."""
    return with_end(AutoTokenizer.from_pretrained(folder), str(folder))


def with_end(tokenizer: PreTrainedTokenizerBase, where: str) -> PreTrainedTokenizerBase:
    """The tokenizer with a padding token, without a new row of the embedding.

    A tokenizer that has none pads with its end token, as padding is known by the attention mask alone (labels, noise,
    generation). The official code of the papers adds a token "[PAD]" and grows the embedding by a row instead.

    Raises:
        ValueError: there is no end-of-text token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{where}: the tokenizer has no end-of-text token, so answers would never end")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= len(tokenizer):
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    config: ModelConfig, seed: int, weights: Path | None = None, four_bits: LoRAConfig | None = None
) -> PreTrainedModel:
    """The model on the CPU, in config.dtype.

    Args:
        config: where it comes from.
        seed: of random initial weights.
        weights: a folder of whole weights written by `save_model`, instead of the base model.
        four_bits: load the base in 4 bits, quantised as this says (bitsandbytes, on a GPU).

    Raises:
        ValueError: the tokenizer has more tokens than the embedding has rows; the vocabulary is never grown here.
    """
    dtype = getattr(torch, config.dtype)
    if config.architecture is not None and weights is None:
        model = _build_llama(config.architecture, load_tokenizer(config), seed).to(dtype)
    else:
        source, revision = (str(weights), None) if weights else _source(config)
        options: dict[str, Any] = {"quantization_config": _quantisation(four_bits)} if four_bits else {}
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            attn_implementation=config.attention,
            use_safetensors=True,
            **options,
        )
    if weights is None:
        embedding: Any = model.get_input_embeddings()
        _check_vocabulary(config, embedding.weight.shape[0])
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def load_trained(config: ModelConfig, seed: int, folder: Path, four_bits: LoRAConfig | None = None) -> Any:
    """What `save_model` wrote: whole weights, or an adapter beside the base model, which must be at hand again.

    Raises:
        ValueError: neither is in the folder, or the base model is missing.
    """
    if not (folder / "adapter_config.json").exists():
        return load_model(config, seed, folder)
    from peft import PeftModel

    base = adapter_base(load_model(config, seed, four_bits=four_bits))
    with peft_warnings():
        return for_inference(PeftModel.from_pretrained(base, folder))


def _check_vocabulary(config: ModelConfig, rows: int) -> None:
    vocabulary = len(load_tokenizer(config))
    if vocabulary > rows:
        raise ValueError(f"model={config.name}: the tokenizer has {vocabulary} tokens, the embedding only {rows} rows")


def _quantisation(settings: LoRAConfig) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quant_type,
        bnb_4bit_use_double_quant=settings.double_quant,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def save_model(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write weights or the adapter (safetensors), config and tokenizer; the folder appears whole or not at all.

    Args:
        model: a transformers model, or one that PEFT wraps.
        tokenizer: of the model.
        folder: to write.
        weights: whole ones where the model holds shards; None: the model's own.
    """
    with commit_folder(folder) as temporary:
        if is_adapted(model):
            # "auto" would ask the Hub whether the embedding was resized; it never is here.
            model.save_pretrained(temporary, state_dict=weights, save_embedding_layers=False)
            (temporary / "README.md").unlink(missing_ok=True)  # PEFT's empty form; harness.export writes a real card
        else:
            model.save_pretrained(temporary, state_dict=weights)
        tokenizer.save_pretrained(temporary)


def _build_llama(size: TinyArchitecture, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    special = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = tiny_llama(size, len(tokenizer), **special)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(config)
        # Tokens of norm 1, as in trained models: against the usual initial 0.02 the papers' alpha would drown them.
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=size.hidden_size**-0.5)
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
    folder = cache_dir() / "gguf" / f"{path.stem}-{path_fingerprint(str(path))[:16]}"
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


def weights_hash(model: PreTrainedModel) -> str:
    """SHA-256 over all parameters and buffers, by name (hex): equal hashes, bitwise equal models."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
