"""The noise in real architectures and under what wraps a model: LoRA, checkpointing, torch.compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.tiny_models import VOCABULARY, tiny_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.models.load import checkpoint_layers
from harness.noise import PRESETS, EmbeddingNoise, Noise

SYMNOISE = Noise(**PRESETS["symnoise"])
ARCHITECTURES = ["llama", "qwen2", "gemma", "gpt_neox", "opt", "mistral"]


def batch_of_two() -> dict[str, Tensor]:
    ids = torch.randint(2, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def gradients(model: nn.Module) -> Tensor:
    vector = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return vector


def outputs_of_embeddings(model: PreTrainedModel) -> dict[str, Tensor]:
    """First rows of what every embedding table gives in one training pass, by the table's name."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _module, _args, output, name=name: seen.update({name: output.detach()[:2]}))
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
    ]
    model(**batch_of_two())
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_token_embeddings_alone_are_noised(name: str) -> None:
    model = tiny_model(name)
    clean = outputs_of_embeddings(model)
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        injector.measure = True
        noised = outputs_of_embeddings(model)
    assert injector.last is not None
    assert noised.keys() == clean.keys()
    assert len(clean) == (2 if name == "opt" else 1)  # OPT's second table holds positions
    changed = {table for table in clean if not torch.equal(clean[table], noised[table])}
    token_tables = {table for table, module in model.named_modules() if module is model.get_input_embeddings()}
    assert changed == token_tables
    # Norm alpha, to the rounding of float32 sums.
    torch.testing.assert_close(injector.last.norm, torch.full((2, 2), 5.0), rtol=1e-4, atol=0)
    assert injector.last.noised_padding == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_pair_is_two_passes_in_every_architecture(name: str) -> None:
    model, batch = tiny_model(name), batch_of_two()
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        injector.at(step=0)
        concat = model(**batch).logits
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        halves = []
        for half in (0, 1):
            injector.at(step=0, half=half)
            halves.append(model(**batch).logits)
    real = batch["attention_mask"].bool().repeat(2, 1)
    # Matrix products of other shapes add up in another order in float32.
    torch.testing.assert_close(concat[real], torch.cat(halves)[real], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(halves[0], halves[1], atol=1e-2)


def test_alpha_refers_to_gemmas_scaled_embeddings() -> None:
    # transformers 5 multiplies by sqrt(hidden size) inside the embedding module; the hook sees the product.
    model: Any = tiny_model("gemma")
    batch = batch_of_two()
    weight = model.get_input_embeddings().weight.detach()
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        injector.measure = True
        model(**batch)
    assert injector.last is not None
    scaled = weight[batch["input_ids"]] * model.config.hidden_size**0.5
    norms = (scaled * batch["attention_mask"][..., None]).flatten(1).norm(dim=1)
    torch.testing.assert_close(injector.last.norm, torch.full((2, 2), 5.0), rtol=1e-4, atol=0)
    torch.testing.assert_close(injector.last.ratio, (5.0 / norms).expand(2, 2), rtol=1e-4, atol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_head_sees_clean_weights(tied: bool) -> None:
    model = tiny_model("llama", tie_word_embeddings=tied)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    before = model.lm_head.weight.detach().clone()
    with EmbeddingNoise(model, Noise(alpha=100.0), seed=0):
        out = model(**batch_of_two(), output_hidden_states=True)
        assert torch.equal(out.logits, out.hidden_states[-1] @ before.T)
    assert torch.equal(model.lm_head.weight, before)


def test_gradient_checkpointing_recomputes_the_same_noise() -> None:
    results = []
    for checkpointing in (False, True):
        model = tiny_model("llama", torch.float64)
        if checkpointing:
            checkpoint_layers(model)
        with EmbeddingNoise(model, SYMNOISE, seed=0):
            model(**batch_of_two(), use_cache=False).loss.backward()
        results.append(gradients(model))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


# Dynamo looks at .grad of the noised embeddings, which are no leaf; its own warning filter comes too late.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("attach_to", [pytest.param("compiled", marks=pytest.mark.slow), "inner"])
def test_torch_compile_changes_nothing(attach_to: str) -> None:
    model = tiny_model("llama", torch.float64)
    model.model.layers = model.model.layers[:1]  # half the time to compile
    compiled: Any = torch.compile(model, backend="aot_eager")
    results = []
    for attached, called in ((model, model), (compiled if attach_to == "compiled" else model, compiled)):
        with EmbeddingNoise(attached, SYMNOISE, seed=0) as injector:
            for step in range(2):
                injector.at(step=step)
                loss = called(**batch_of_two(), use_cache=False).loss
            loss.backward()
        results.append((loss.detach(), gradients(model)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-9)  # losses in float32


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings=True. and a tied layer:UserWarning")  # PEFT 0.18
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # read by peft
@pytest.mark.parametrize(
    "trained",
    [
        {"modules_to_save": ["embed_tokens"]},
        {"trainable_token_indices": list(range(2, VOCABULARY))},
        {"target_modules": ["embed_tokens"]},
    ],
)
@pytest.mark.parametrize("reentrant", [False, True])
def test_adapted_embeddings_and_checkpointing(trained: dict[str, Any], reentrant: bool) -> None:
    """Whatever PEFT puts around the embedding, with checkpointed layers: noise and gradients."""
    peft = pytest.importorskip("peft")
    model: Any = tiny_model("llama")
    model.enable_input_require_grads()
    checkpoint_layers(model, reentrant)
    settings = {"target_modules": ["q_proj"], **trained}
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=2, **settings)).train()
    batch = batch_of_two()
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        injector.measure = True
        model(**batch, use_cache=False).loss.backward()
    assert injector.last is not None
    torch.testing.assert_close(injector.last.norm, torch.full((2, 2), 5.0), rtol=1e-4, atol=0)
    gradients = [p.grad for name, p in model.named_parameters() if p.grad is not None and "embed_tokens" in name]
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # read by peft
@pytest.mark.parametrize("target", ["q_proj", "embed_tokens"])
def test_lora(target: str) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=[target], init_lora_weights=False)
    model: Any = peft.get_peft_model(tiny_model("llama"), config).train()
    clean = model(**batch_of_two()).loss
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        injector.measure = True
        out = model(**batch_of_two())
        out.loss.backward()
    assert out.logits.shape[0] == 4
    assert out.loss != clean
    assert injector.last is not None
    torch.testing.assert_close(injector.last.norm, torch.full((2, 2), 5.0), rtol=1e-4, atol=0)
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert trained
    assert all("lora_" in name for name in trained)
    assert torch.equal(model(**batch_of_two()).loss, clean)


def test_a_wrapper_with_an_inner_module_finds_the_embedding() -> None:
    class Wrapper(nn.Module):  # as DistributedDataParallel
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, **call: Any) -> Any:
            return self.module(**call)

    model = tiny_model("llama")
    losses = []
    for attached, called in ((model, model), (Wrapper(model), None), (model, Wrapper(model))):
        with EmbeddingNoise(attached, SYMNOISE, seed=0):
            losses.append((called or attached)(**batch_of_two()).loss)
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


def test_bfloat16_weights() -> None:
    model = tiny_model("llama", torch.bfloat16)
    with EmbeddingNoise(model, SYMNOISE, seed=0) as injector:
        injector.measure = True
        model(**batch_of_two()).loss.backward()
    assert injector.last is not None
    # The sum of embedding and noise is rounded to 8 bits: up to 1% of the norm here.
    torch.testing.assert_close(injector.last.norm, torch.full((2, 2), 5.0), rtol=1e-2, atol=0)


def test_layers_that_look_the_tokens_up_again_are_refused_by_name() -> None:
    model = tiny_model("gemma3n_text")
    with pytest.raises(ValueError, match=r"Gemma3nForCausalLM: its layers read .*\(model\.embed_tokens_per_layer\)"):
        EmbeddingNoise(model, SYMNOISE, seed=0)
    with EmbeddingNoise(model, Noise("none"), seed=0):
        model(**batch_of_two())


class Reader(nn.Module):
    """A model with a second table of tokens, which its layer reads, or of positions."""

    def __init__(self, second: str) -> None:
        super().__init__()
        self.tokens, self.beside = nn.Embedding(VOCABULARY, 8), nn.Embedding(VOCABULARY, 8)
        self.second = second

    def get_input_embeddings(self) -> nn.Module:
        return self.tokens

    def forward(self, input_ids: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1])[None].expand_as(input_ids)
        again: Tensor = self.beside(input_ids if self.second == "tokens" else places)
        return (self.tokens(input_ids) + again).sum()


def test_a_second_lookup_by_another_name_is_refused_in_the_first_pass() -> None:
    ids = batch_of_two()["input_ids"]
    model = Reader("tokens")
    with (
        EmbeddingNoise(model, Noise(), seed=0),
        pytest.raises(ValueError, match=r"model Reader: its layers read the token ids .* \(beside\)"),
    ):
        model(ids)
    model = Reader("positions")
    with EmbeddingNoise(model, Noise(), seed=0):
        model(ids).backward()
        assert not model.beside._forward_pre_hooks  # looked at once
