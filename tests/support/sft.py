"""Documents of token ids for a trainer, and loss and gradient of a pair by two passes written by hand.

Imports neither TRL nor datasets before they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from harness.noise import Noise, noise_generators
from harness.noise.randomness import DocumentKey
from support.tiny_models import VOCABULARY, tiny_model

LENGTHS, PROMPT, SEED = (12, 5, 9, 7), 3, 11
# Of the gradient's norm. The weights are float64; Llama's norm and TRL's tiled head compute in float32: 2e-7 seen.
CLOSE = 1e-6


def documents() -> list[list[int]]:
    """Random token ids."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS]


def rows(completion_only: bool = False) -> Any:
    """The documents as a data set; with completion_only the first PROMPT tokens of each bear no label."""
    from datasets import Dataset

    masks = [[int(place >= PROMPT) for place in range(length)] for length in LENGTHS]
    columns = {"input_ids": documents()} | ({"completion_mask": masks} if completion_only else {})
    return Dataset.from_dict(columns)


def tokenizer() -> PreTrainedTokenizerFast:
    """As many words as the model has embeddings; 0 is padding. The data are token ids already."""
    words = {f"w{number}": number for number in range(VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w2"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="w0", eos_token="w1", bos_token="w1")


def key_of(token_ids: list[int]) -> int:
    """A document's place in the data set, as in the harness's own loop."""
    return documents().index(token_ids)


def settings_of_one_step(folder: Path, **changes: Any) -> dict[str, Any]:
    """Of a Trainer whose one step of SGD moves the weights by minus the gradient."""
    return {
        **{"output_dir": str(folder), "max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0},
        **{"lr_scheduler_type": "constant", "per_device_train_batch_size": 4, "report_to": "none", "bf16": False},
        **{"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "logging_steps": 1, "seed": 0},
        **{"dataloader_pin_memory": False, **changes},
    }


def trainer_of(model: Any, folder: Path, callbacks: list[Any], data: Any, **settings: Any) -> Any:
    """TRL's SFTTrainer on token ids."""
    from trl import SFTConfig, SFTTrainer

    options = {key: settings.pop(key) for key in ("compute_loss_func", "eval_dataset") if key in settings}
    settings = {"activation_checkpointing": False, "max_length": None, **settings}
    arguments = SFTConfig(**settings_of_one_step(folder, **settings))
    arguments.completion_only_loss = "completion_mask" in data.column_names
    return SFTTrainer(
        model, arguments, train_dataset=data, processing_class=tokenizer(), callbacks=callbacks, **options
    )


def weights(model: nn.Module) -> Tensor:
    """All that is trained, flat."""
    return torch.cat([each.detach().flatten().clone() for each in model.parameters() if each.requires_grad])


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Of each token."""
    return nn.functional.cross_entropy(logits.double(), targets, reduction="none")


def by_hand(
    noise: Noise,
    completion_only: bool = False,
    per_token: Callable[[Tensor, Tensor], Tensor] = nll,
    model: Any = None,
    seed: int = SEED,
    key: Callable[[list[int]], DocumentKey] = key_of,
) -> tuple[float, Tensor]:
    """Two passes over each document, X + e and X - e or the second draw, and one mean over all their targets.

    Returns:
        Loss, and the gradient of what is trained.
    """
    model = model or tiny_model("llama", torch.float64)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for ids in documents():
        (generator,) = noise_generators(seed, 0, [key(ids)])
        embeddings = model.get_input_embeddings()(torch.tensor(ids))
        first, second = (draw(noise, embeddings.shape, generator) for _ in range(2))
        for added in (first, -first if noise.pair == "antithetic" else second):
            logits = model(inputs_embeds=(embeddings + added.to(embeddings.dtype))[None]).logits[0]
            learnt = torch.arange(1, len(ids)) >= (PROMPT if completion_only else 0)
            losses = per_token(logits[:-1][learnt], torch.tensor(ids)[1:][learnt])
            total, count = total + losses.sum(), count + len(losses)
    loss = total / count
    trained = [each for each in model.parameters() if each.requires_grad]
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    found = zip(trained, gradients, strict=True)
    flat = [(torch.zeros_like(each) if grad is None else grad).flatten() for each, grad in found]
    return loss.item(), torch.cat(flat)


def draw(noise: Noise, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """alpha / sqrt(L d) u, u as the papers define it."""
    scale = noise.alpha / math.sqrt(math.prod(shape))
    if noise.distribution == "uniform":
        return scale * torch.empty(shape, dtype=torch.float64).uniform_(-1, 1, generator=generator)
    words = torch.empty(math.ceil(math.prod(shape) / 64), dtype=torch.int64)
    octets = words.random_(-(2**63), None, generator=generator).view(torch.uint8)
    bits = (octets[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return scale * (2.0 * bits.flatten()[: math.prod(shape)].view(shape).double() - 1)
