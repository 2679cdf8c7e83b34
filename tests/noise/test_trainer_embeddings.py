"""`NoiseCallback` in TRL on models whose embedding is tied, frozen, wrapped, adapted or quantised: a pair by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.sft import CLOSE, SEED, by_hand, documents, key_of, rows, trainer_of, weights
from support.tiny_models import VOCABULARY, tiny_model
from torch import Tensor, nn

from harness.noise import PRESETS, Noise
from harness.noise.callback import NoiseCallback

# What TRL, PEFT, torch's quantisation and transformers say of one another.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning"),
]
pytest.importorskip("trl")
SYMNOISE = Noise(**PRESETS["symnoise"], alpha=5)


class Doubling(nn.Module):
    """An embedding inside of another module, which changes what it gives."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self.inner.weight  # type: ignore[assignment]
        return weight

    def forward(self, input_ids: Tensor) -> Tensor:
        embedded: Tensor = self.inner(input_ids)
        return 2 * embedded


def plain() -> Any:
    return tiny_model("llama", torch.float64)


def tied() -> Any:
    model: Any = tiny_model("llama", torch.float64, tie_word_embeddings=True)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    return model


def frozen() -> Any:
    model = plain()
    model.get_input_embeddings().weight.requires_grad_(False)
    return model


def wrapped() -> Any:
    model = plain()
    model.set_input_embeddings(Doubling(model.get_input_embeddings()))
    return model


def adapted(**settings: Any) -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = {"task_type": "CAUSAL_LM", "r": 2, "init_lora_weights": False, "target_modules": ["q_proj"], **settings}
    return peft.get_peft_model(plain(), peft.LoraConfig(**config)).double().train()


MODELS: dict[str, Callable[[], Any]] = {
    "tied": tied,
    "frozen": frozen,
    "wrapped": wrapped,
    "LoRA": adapted,
    "LoRA, embedding saved": lambda: adapted(modules_to_save=["embed_tokens"]),
    "LoRA on the embedding": lambda: adapted(target_modules=["embed_tokens"]),
    "LoRA, some rows trained": lambda: adapted(trainable_token_indices=list(range(2, VOCABULARY))),
}


@pytest.mark.parametrize("layout", ["plain", "padding_free"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_pair_is_two_passes(tmp_path: Path, kind: str, layout: str) -> None:
    model = MODELS[kind]()
    before = weights(model)
    callback = NoiseCallback(SYMNOISE, SEED, key_of, verify=True)
    trainer = trainer_of(model, tmp_path, [callback], rows(completion_only=True), padding_free=layout != "plain")
    trainer.train()
    reference = MODELS[kind]()
    _, gradient = by_hand(SYMNOISE, completion_only=True, model=reference)
    assert gradient.norm() > 0
    assert (before - weights(model) - gradient).norm() <= CLOSE * gradient.norm()
    assert callback.report is not None
    assert callback.report.right
    assert callback.report.realised == pytest.approx((1, 1, 1), rel=1e-6)


def of_torch(model: Any) -> None:
    """The embedding of torch's own post-training quantisation, 8 bits."""
    from torch.ao.nn.quantized import Embedding
    from torch.ao.quantization import float_qparams_weight_only_qconfig

    table = model.get_input_embeddings()
    table.qconfig = float_qparams_weight_only_qconfig
    model.set_input_embeddings(Embedding.from_float(table))


def of_torchao(model: Any) -> None:
    """torchao's weight-only 8 bits, one scale a row."""
    quantization = pytest.importorskip("torchao.quantization")
    config = quantization.IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=quantization.PerAxis(0))
    quantization.quantize_(model, config, filter_fn=lambda module, _name: isinstance(module, nn.Embedding))


def of_bitsandbytes(model: Any) -> None:
    """bitsandbytes' embedding of 4 bits."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    table = model.get_input_embeddings()
    quantised = bitsandbytes.nn.EmbeddingNF4(*table.weight.shape)
    quantised.load_state_dict(table.state_dict())
    model.set_input_embeddings(quantised.to("cpu"))


@pytest.mark.parametrize("quantise", [of_torch, of_torchao, of_bitsandbytes])
def test_a_quantised_embedding(tmp_path: Path, quantise: Callable[[Any], None]) -> None:
    model, whole = tiny_model("llama"), tiny_model("llama")
    quantise(model)
    ids = torch.tensor(documents()[0])
    off = (model.get_input_embeddings()(ids) - whole.get_input_embeddings()(ids)).norm()
    assert 0 < off < 0.2 * whole.get_input_embeddings()(ids).norm()  # it is quantised
    for parameter in model.get_input_embeddings().parameters():
        parameter.requires_grad_(False)
    before = weights(model)
    callback = NoiseCallback(SYMNOISE, SEED, key_of, verify=True)
    trainer_of(model, tmp_path, [callback], rows(completion_only=True)).train()
    found = before - weights(model)
    reference = tiny_model("llama")
    quantise(reference)
    for parameter in reference.get_input_embeddings().parameters():
        parameter.requires_grad_(False)
    _, gradient = by_hand(SYMNOISE, completion_only=True, model=reference)
    assert (found - gradient).norm() <= 1e-5 * gradient.norm()  # float32
    assert callback.report is not None
    assert callback.report.right
    assert callback.report.realised == pytest.approx((1, 1, 1), rel=1e-5)
