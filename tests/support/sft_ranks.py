"""One rank of a torchrun of TRL's SFTTrainer: losses, gradients and weights of its trainings, for test_trl_ddp.

python -m torch.distributed.run --nproc-per-node 2 tests/support/sft_ranks.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from harness.noise import PRESETS, Noise
from harness.noise.callback import NoiseCallback
from support.sft import SEED, key_of, rows, trainer_of, weights
from support.tiny_models import tiny_model

SYMNOISE = Noise(**PRESETS["symnoise"], alpha=5)
STEPS: dict[str, dict[str, Any]] = {
    "plain": {"per_device_train_batch_size": 2},
    "padding_free": {"per_device_train_batch_size": 2, "padding_free": True},
    "accumulated": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2},
}
# Two steps an epoch on two ranks; the checkpoint is in the middle of the second.
LONG: dict[str, Any] = {"per_device_train_batch_size": 1, "max_steps": 4, "learning_rate": 0.1}


def one_step(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Loss and gradient of one step over all four documents."""
    model = tiny_model("llama", torch.float64)
    before = weights(model)
    callback = NoiseCallback(SYMNOISE, SEED, key_of, verify=True)
    trainer = trainer_of(model, folder, [callback], rows(completion_only=True), ddp_backend="gloo", **settings)
    trainer.train()
    (loss,) = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert callback.report is not None
    return {"loss": loss, "gradient": before - weights(model), "lengths": callback.report.lengths}


def four_steps(folder: Path, resume: Path | None = None) -> dict[str, Any]:
    """Weights after four steps, and the losses of an evaluation after each."""
    model, data = tiny_model("llama", torch.float64), rows()
    keep = {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 1}
    settings = {**LONG, **keep, "per_device_eval_batch_size": 2, "ddp_backend": "gloo"}
    callback = NoiseCallback(SYMNOISE, SEED, key_of)
    trainer = trainer_of(model, folder, [callback], data, eval_dataset=data, **settings)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    after = trainer.evaluate()["eval_loss"]
    evaluated = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    return {"weights": weights(model), "evaluated": evaluated, "after": after}


def main(folder: Path) -> None:
    """Train everything and save what this rank saw."""
    torch.set_num_threads(1)
    saw: dict[str, Any] = {name: one_step(folder / name, settings) for name, settings in STEPS.items()}
    saw["straight"] = four_steps(folder / "straight")
    saw["resumed"] = four_steps(folder / "resumed", folder / "straight" / "checkpoint-3")
    torch.save(saw, folder / f"rank{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
