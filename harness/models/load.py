"""The causal language model and its tokenizer: built from a config, or read from a folder, a GGUF file or the Hub."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from harness.config import LoRAConfig, ModelConfig, TinyArchitecture
from harness.models.adapters import adapter_base, for_inference, peft_warnings
from harness.models.layers.recompute import checkpoint_layers as checkpoint_layers
from harness.models.meta import tiny_llama
from harness.models.place import cast
from harness.models.source import source_of
from harness.models.tokenizer import check_vocabulary, load_tokenizer
from harness.models.weights import refuse_encoder, refuse_incomplete


def load_model(
    config: ModelConfig, seed: int, weights: Path | None = None, four_bits: LoRAConfig | None = None
) -> PreTrainedModel:
    """The model on the CPU, in config.dtype.

    Args:
        config: where it comes from.
        seed: seed of random initial weights.
        weights: a folder of whole weights written by `save_model`, instead of the base model.
        four_bits: load the base in 4 bits with these settings (bitsandbytes, on a GPU).

    Raises:
        ValueError: the tokenizer has more tokens than the embedding has rows (the vocabulary is never grown here),
            tensors are missing, or it is not a causal model.
    """
    dtype = getattr(torch, config.dtype)
    if config.architecture is not None and weights is None:
        model = _build_llama(config.architecture, load_tokenizer(config), seed)
        cast(model, dtype)
    else:
        source, revision = (str(weights), None) if weights else source_of(config)
        options: dict[str, Any] = {"quantization_config": _quantisation(four_bits)} if four_bits else {}
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            output_loading_info=True,
            trust_remote_code=False,
            dtype=dtype,
            attn_implementation=config.attention,
            use_safetensors=True,
            **options,
        )
        model, info = loaded
        refuse_encoder(model.config, f"model={config.name}")
        refuse_incomplete(model, info, f"model={config.name}: {source}")
    if weights is None:
        embedding: Any = model.get_input_embeddings()
        check_vocabulary(config, embedding.weight.shape[0])
    if config.gradient_checkpointing:
        checkpoint_layers(model, selective=config.gradient_checkpointing == "selective")
    return model


def load_trained(config: ModelConfig, seed: int, folder: Path, four_bits: LoRAConfig | None = None) -> Any:
    """Load what `save_model` wrote: whole weights, or an adapter on the base model, which must be available.

    Raises:
        ValueError: neither is in the folder, or the base model is missing.
    """
    if not (folder / "adapter_config.json").exists():
        return load_model(config, seed, folder)
    from peft import PeftModel

    base = adapter_base(load_model(config, seed, four_bits=four_bits))
    with peft_warnings():
        return for_inference(PeftModel.from_pretrained(base, folder))


def load_tensor_parallel(folder: Path, dtype: str) -> PreTrainedModel:
    """Load whole weights split over all processes of torchrun (transformers' tensor parallelism).

    Every process must then make the same calls.
    """
    options: dict[str, Any] = {"tp_plan": "auto"}
    settings = getattr(importlib.import_module("transformers.distributed"), "DistributedConfig", None)
    if settings is not None and "tp_plan" in inspect.signature(settings).parameters:
        options = {"distributed_config": settings(tp_plan="auto")}  # the bare keyword is deprecated
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False, **options
    )
    return model


def _quantisation(settings: LoRAConfig) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quant_type,
        bnb_4bit_use_double_quant=settings.double_quant,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _build_llama(size: TinyArchitecture, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    special = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = tiny_llama(size, len(tokenizer), **special)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        # Embeddings of norm 1, as in trained models: with the usual std of 0.02 the papers' alpha would drown them.
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=size.hidden_size**-0.5)
        return model
