"""The code of docs/use-it-where-you-train.md, as it stands there, in the real packages: what it trains is a pair.

Each snippet lies between `# snippet: NAME` and `# end`; tests/docs/test_use_it_where_you_train.py compares the page.
Those of axolotl and LLaMA-Factory are in files of their own, for environments of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.sft import CLOSE, by_hand, documents, rows, settings_of_one_step, tokenizer, weights
from support.tiny_models import tiny_model
from torch import Tensor, nn
from transformers import DataCollatorWithFlattening, TrainingArguments

from harness.noise import PRESETS, Noise, content_key

# What TRL, PEFT and transformers say of one another.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing:FutureWarning"),
]
SYMNOISE = Noise(**PRESETS["symnoise"], alpha=5.0)


@pytest.fixture
def model() -> Any:
    return tiny_model("llama", torch.float64)


def is_a_pair(model: Any, before: Tensor, reference: Any = None, key: Any = content_key) -> None:
    """One step of SGD of rate 1 took off the gradient of two passes written by hand."""
    _, gradient = by_hand(SYMNOISE, model=reference, seed=0, key=key)
    assert gradient.norm() > 0
    assert (before - weights(model) - gradient).norm() <= CLOSE * gradient.norm()


def padded(features: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A collator: rows padded on the right, labels at all real tokens."""
    batch = tokenizer().pad(features, return_tensors="pt")
    return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


@pytest.mark.parametrize("layout", ["padded", "packed", "accumulated"])
def test_transformers(model: Any, layout: str, tmp_path: Path) -> None:
    collator: Any = DataCollatorWithFlattening() if layout == "packed" else padded
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2} if layout == "accumulated" else {}
    arguments = TrainingArguments(**settings_of_one_step(tmp_path, **split))
    dataset, before = rows(), weights(model)
    # snippet: transformers
    from transformers import Trainer

    from harness.noise import PRESETS, Noise
    from harness.noise.callback import NoiseCallback

    model.config.use_cache = False  # with a cache, transformers lets the documents of a packed row see each other
    with NoiseCallback(Noise(**PRESETS["symnoise"], alpha=5.0), seed=0) as noise:
        Trainer(model, arguments, train_dataset=dataset, data_collator=collator, callbacks=[noise]).train()
    # end
    is_a_pair(model, before)


def sft_config(folder: Path, **settings: Any) -> Any:
    trl = pytest.importorskip("trl")
    given = {"activation_checkpointing": False, "max_length": None, **settings}
    return trl.SFTConfig(**settings_of_one_step(folder, **given))


@pytest.mark.parametrize(
    "layout", [{}, {"packing": True, "max_length": 24}, {"padding_free": True}], ids=["plain", "packed", "padding-free"]
)
def test_trl(model: Any, layout: dict[str, Any], tmp_path: Path) -> None:
    arguments, dataset, before, words = sft_config(tmp_path, **layout), rows(), weights(model), tokenizer()
    # snippet: trl
    from trl import SFTTrainer

    from harness.noise import PRESETS, Noise
    from harness.noise.callback import NoiseCallback

    with NoiseCallback(Noise(**PRESETS["symnoise"], alpha=5.0), seed=0) as noise:
        SFTTrainer(model, arguments, train_dataset=dataset, processing_class=words, callbacks=[noise]).train()
    # end
    is_a_pair(model, before)


def test_peft(model: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    arguments, dataset, words = sft_config(tmp_path), rows(), tokenizer()
    # snippet: peft
    from peft import LoraConfig
    from trl import SFTTrainer

    from harness.noise import PRESETS, Noise
    from harness.noise.callback import NoiseCallback

    lora = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear")
    with NoiseCallback(Noise(**PRESETS["symnoise"], alpha=5.0), seed=0) as noise:
        trainer = SFTTrainer(
            model, arguments, train_dataset=dataset, processing_class=words, peft_config=lora, callbacks=[noise]
        )
        trainer.train()
    # end
    adapters = [(name, each) for name, each in trainer.model.named_parameters() if each.requires_grad]
    assert all("lora_" in name for name, _ in adapters)
    # Adapters begin with B = 0: their step is minus the gradient at the model without them; A moves by nothing.
    reference = peft.get_peft_model(tiny_model("llama", torch.float64), lora).train()
    with torch.no_grad():
        for (_, one), (_, other) in zip(
            adapters, [each for each in reference.named_parameters() if each[1].requires_grad], strict=True
        ):
            other.copy_(torch.zeros_like(one) if one.shape[1] == 8 else one)
    before = weights(reference)
    _, gradient = by_hand(SYMNOISE, model=reference, seed=0, key=content_key)
    found = before - weights(trainer.model)
    assert gradient.norm() > 0
    assert (found - gradient).norm() <= CLOSE * gradient.norm()


def batches_of(ids: list[list[int]]) -> list[dict[str, Tensor]]:
    return [padded([{"input_ids": each, "attention_mask": [1] * len(each)} for each in ids])]


def test_a_loop_of_ones_own(model: Any) -> None:
    batches, optimizer, before = batches_of(documents()), torch.optim.SGD(model.parameters(), lr=1.0), weights(model)
    # snippet: loop
    from harness.noise import PRESETS, EmbeddingNoise, Noise, content_key

    with EmbeddingNoise(model, Noise(**PRESETS["symnoise"], alpha=5.0), seed=0, document_key=content_key) as noise:
        for step, batch in enumerate(batches):
            noise.at(step=step)
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    # end
    is_a_pair(model, before)


def test_a_loop_that_computes_its_own_loss(model: Any) -> None:
    batches, optimizer, before = batches_of(documents()), torch.optim.SGD(model.parameters(), lr=1.0), weights(model)

    def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).double(), labels[:, 1:].flatten())

    # snippet: own loss
    from harness.noise import PRESETS, EmbeddingNoise, Noise, content_key, paired

    with EmbeddingNoise(model, Noise(**PRESETS["symnoise"], alpha=5.0), seed=0, document_key=content_key) as noise:
        for step, batch in enumerate(map(paired, batches)):
            noise.at(step=step)
            labels = batch.pop("labels")  # of 2B rows
            loss_of(model(**batch).logits, labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    # end
    is_a_pair(model, before)


def test_verify(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trl = pytest.importorskip("trl")
    arguments = sft_config(tmp_path, neftune_noise_alpha=5.0)
    trainer = trl.SFTTrainer(model, arguments, train_dataset=rows(), processing_class=tokenizer())
    # snippet: verify
    from harness.noise import verify

    print(verify(trainer).text())
    # end
    assert "L: the width of the PADDED batch" in capsys.readouterr().out
