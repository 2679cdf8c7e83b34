"""One step of SymNoise's pair in a trainer with Liger's kernels, interpreted on the CPU; prints what it is off by.

TRITON_INTERPRET=1 python tests/support/liger_run.py Trainer|SFTTrainer FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments
from transformers.models.llama import modeling_llama

from harness.noise import PRESETS, Noise
from harness.noise.callback import NoiseCallback
from support.sft import SEED, by_hand, key_of, rows, settings_of_one_step, tokenizer, trainer_of, weights
from support.tiny_models import tiny_model

# Of its kernels the interpreter runs rotary embeddings and the fused loss; those of norms and MLPs call `.to` on
# numbers, which are tensors in compiled code alone.
SETTINGS: dict[str, Any] = {"use_liger_kernel": True, "liger_kernel_config": {"rms_norm": False, "swiglu": False}}


def main(kind: str, folder: Path) -> None:
    """Train one step and compare."""
    noise, model = Noise(**PRESETS["symnoise"], alpha=5.0), tiny_model("llama")
    before, callbacks = weights(model), [NoiseCallback(noise, SEED, key_of)]
    if kind == "SFTTrainer":
        trainer: Any = trainer_of(model, folder, callbacks, rows(), **SETTINGS)
    else:
        data = rows().map(lambda row: {"labels": row["input_ids"]})
        arguments = TrainingArguments(**settings_of_one_step(folder, **SETTINGS))
        collator = DataCollatorForSeq2Seq(tokenizer())
        trainer = Trainer(model, arguments, train_dataset=data, data_collator=collator, callbacks=callbacks)
    trainer.train()
    kernels = [each.__module__ for each in (modeling_llama.apply_rotary_pos_emb, model.forward)]
    loss, gradient = by_hand(noise, model=tiny_model("llama"))
    logged = next(row["loss"] for row in trainer.state.log_history if "loss" in row)
    off = float((before - weights(model) - gradient.float()).norm() / gradient.norm())
    print(json.dumps({"kernels": kernels, "loss": logged / loss, "gradient": off}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
