"""What each trainer's built-in NEFTune does to documents of 20 to 500 tokens: realised over intended norm.

    python -m benchmarks.builtin_neftune [--alpha 5] [--seeds 20] [--markdown benchmarks/results/builtin_neftune.md]

The real packages on a small random Llama: transformers' Trainer with its `neftune_noise_alpha`, and TRL's SFTTrainer,
which inherits it, in each of their layouts, beside this package's NoiseCallback. `verify`'s Watch looks at the
first training batch; intended is alpha / sqrt(3), the norm of uniform noise on a document's own length (2310.05914,
Algorithm 1). Means over seeds.
Prints a Markdown table: a column for each document, one row for each trainer and layout.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from benchmarks._common import table
from harness.noise import PRESETS, Noise
from harness.noise.callback import NoiseCallback
from harness.noise.verification import Watch

LENGTHS = (20, 60, 120, 250, 500)
VOCABULARY = 97
LAYOUTS: dict[str, dict[str, Any]] = {
    "Trainer, padded": {},
    "Trainer, flattened": {},
    "SFTTrainer, padded": {},
    "SFTTrainer, padding-free": {"padding_free": True},
    "SFTTrainer, packed (bfd)": {"packing": True, "max_length": sum(LENGTHS)},
}


def documents() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS]


def trainer_of(folder: str, layout: str, callbacks: list[Any], alpha: float | None, seed: int) -> Trainer:
    """One training step on all documents, with a learning rate of zero."""
    settings: dict[str, Any] = {
        **{"output_dir": folder, "max_steps": 1, "learning_rate": 0.0, "per_device_train_batch_size": len(LENGTHS)},
        **{"report_to": "none", "bf16": False, "save_strategy": "no", "use_cpu": True, "disable_tqdm": True},
        **{"dataloader_pin_memory": False, "seed": seed, "neftune_noise_alpha": alpha},
    }
    torch.manual_seed(seed)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, pad_token_id=0, **sizes))
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(VOCABULARY)}, unk_token="w2"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1", bos_token="w1")
    if layout.startswith("Trainer"):
        collator = DataCollatorWithFlattening() if "flattened" in layout else DataCollatorForSeq2Seq(tokenizer)
        data = Dataset.from_dict({"input_ids": documents(), "labels": documents()})
        arguments = TrainingArguments(**settings)
        return Trainer(model, arguments, train_dataset=data, data_collator=collator, callbacks=callbacks)
    more = {"activation_checkpointing": False, "completion_only_loss": False, "max_length": None, **LAYOUTS[layout]}
    data = Dataset.from_dict({"input_ids": documents()})
    config = SFTConfig(**settings, **more)
    return SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer, callbacks=callbacks)


class Look(TrainerCallback):
    """Watches the first training pass, after the trainer has attached its own noise."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def on_step_begin(self, *_args: Any, model: Any, **_kwargs: Any) -> None:
        self.watch = Watch(model, Noise(alpha=self.alpha)).__enter__()

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        self.watch.__exit__()
        self.report = self.watch.report()


def shares(layout: str, ours: bool, alpha: float, seed: int) -> tuple[dict[int, float], int]:
    """Realised over intended norm by the document's length, and the number of padding positions that were noised."""
    look = Look(alpha)
    callbacks = [NoiseCallback(Noise(**PRESETS["neftune"], alpha=alpha), seed)] if ours else []
    with tempfile.TemporaryDirectory() as folder:
        trainer_of(folder, layout, [*callbacks, look], None if ours else alpha, seed).train()
    found = zip(look.report.lengths, look.report.norms, strict=True)
    return {length: norm * math.sqrt(3) / alpha for length, norm in found}, look.report.noised_padding


def row_of(layout: str, ours: bool, alpha: float, seeds: int) -> list[str]:
    """One line of the table."""
    found = [shares(layout, ours, alpha, seed) for seed in range(seeds)]
    means = [f"{mean(each[length] for each, _ in found):.2f}" for length in LENGTHS]
    return ["NoiseCallback" if ours else "neftune_noise_alpha", layout, *means, str(found[0][1])]


def main() -> int:
    """Train one step with each and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alpha", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rows = [row_of(layout, ours, options.alpha, options.seeds) for ours in (False, True) for layout in LAYOUTS]
    header = ["noise", "trainer, layout", *(f"{length} tokens" for length in LENGTHS), "padding noised"]
    packages = ", ".join(f"{name} {version(name)}" for name in ("transformers", "trl", "torch"))
    command = f"python -m benchmarks.builtin_neftune --alpha {options.alpha:g} --seeds {options.seeds}"
    text = f"{table(header, rows)}\n\nRealised over intended norm. `{command}`, {packages}.\n"
    print(text)
    if options.markdown:
        options.markdown.write_text("# What built-in NEFTune does\n\n" + text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
