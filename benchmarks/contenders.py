"""The trainers that benchmarks/training.py compares: this project's own loop, HF Trainer, TRL, a plain padded loop.

Each takes the same model and the same documents in the same order at an effective batch of 8, and reports when each of
its optimiser steps ended. All of them use a GPU if there is one.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel

from benchmarks._common import ROOT, composed
from harness.context import Run
from harness.data import Example
from harness.data.batching import IGNORE_INDEX, Document, micro_batches
from harness.data.tokenize import TokenizingRules, tokenize_examples
from harness.models.attention import packed_attention
from harness.models.onednn import fast_linear
from harness.pipeline.plan import job_of
from harness.record import RunFolder
from harness.system.memory import retain_freed_memory
from harness.train.loop import fit
from harness.train.loss import ResponseLoss
from harness.train.schedule import batch_at

BATCH = 8
LEARNING_RATE = 5e-5

# The shapes of SmolLM2-135M and Llama-3.2-1B.
SIZES: dict[str, dict[str, Any]] = {
    "135m": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
    },
    "1b": {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 128256,
    },
}


@dataclass
class Result:
    """One contender's round."""

    tokens_per_s: float
    cpu_s: float  # of all threads, per 1,000 real tokens: more reliable than the clock on a shared machine
    peak_gb: float
    first_loss: float


@dataclass(frozen=True)
class Setting:
    """The input of every contender."""

    model: str | None
    size: str
    data: str
    steps: int
    max_length: int
    attention: str  # of the contenders that use transformers' own

    def load(self) -> PreTrainedModel:
        """The model in float32; without a folder one of `SIZES` with random weights, as fast as the real ones."""
        torch.manual_seed(0)
        options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": self.attention}
        if self.model is not None:
            model: Any = AutoModelForCausalLM.from_pretrained(self.model, **options)
        else:
            config = LlamaConfig(**SIZES[self.size], tie_word_embeddings=True, max_position_embeddings=8192)
            model = AutoModelForCausalLM.from_config(config, **options)
        return cast(PreTrainedModel, model.to(_device()).train())

    def documents(self) -> list[Document]:
        """(steps + 1) * 8 examples: rows of the file, or without tokenizer or file lengths like Alpaca's."""
        count = (self.steps + 1) * BATCH
        if self.model is None or not Path(self.data).is_file():
            return _synthetic(count)
        rows = json.loads(Path(self.data).read_text())[:count]
        examples = [Example(row["instruction"], row["input"], row["output"], self.data) for row in rows]
        rules = TokenizingRules(max_length=self.max_length)
        return tokenize_examples(examples, AutoTokenizer.from_pretrained(self.model), rules).documents

    def tokenizer(self) -> Path:
        """Folder of a tokenizer: the model's, or for random weights the one in the package."""
        return Path(self.model or ROOT / "harness/assets/tiny_tokenizer")


def _synthetic(count: int) -> list[Document]:
    """Prompts of 60 tokens and more, responses log-normal around 70: means and spread of tokenised Alpaca rows."""
    rng = np.random.default_rng(0)
    documents = []
    for index in range(count):
        prompt = 50 + int(rng.exponential(20))
        length = min(512, prompt + 2 + int(rng.lognormal(4.2, 0.9)))
        tokens = rng.integers(3, 49000, length)
        documents.append(Document(index, tokens, np.where(np.arange(length) < prompt, IGNORE_INDEX, tokens)))
    return documents


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class Clock:
    """Real tokens per second, and processor time, from the end of the first step to the end of the last."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.cpu: list[float] = []
        self.tokens: list[int] = []
        self.losses: list[float] = []

    def step(self, tokens: int, loss: float) -> None:
        """Called at the end of each optimiser step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.tokens.append(tokens)
        self.losses.append(loss)

    def result(self) -> Result:
        """After the last step."""
        tokens = sum(self.tokens[1:])
        rate, cpu = tokens / (self.ends[-1] - self.ends[0]), 1000 * (self.cpu[-1] - self.cpu[0]) / tokens
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else kilobytes * 1024
        return Result(rate, cpu, peak / 1e9, self.losses[0])


# --- this project -------------------------------------------------------------------------------------------------


class _Steps:
    """Stands in for the tracker: reports every logged step to the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._tokens = clock, 0

    def log(self, row: dict[str, Any]) -> None:
        self._clock.step(row["train/tokens"] - self._tokens, row["train/loss"])
        self._tokens = row["train/tokens"]


def harness_loop(setting: Setting, precision: str, overrides: tuple[str, ...] = ()) -> Result:
    """The stage `train` as users run it, with its default micro-batches: harness.train.loop.fit."""
    documents, clock = setting.documents(), Clock()
    config = composed(
        *("train=finetune", f"train.batch_size={BATCH}", f"train.precision={precision}", "noise=none"),
        *(f"train.max_steps={setting.steps + 1}", f"train.lr={LEARNING_RATE}", "train.log_every=1"),
        *("train.checkpoint_every=0", "tracking=disabled", f"model.path='{setting.tokenizer()}'"),
        *overrides,
    )
    model = setting.load()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(replace(job_of(config), folder=RunFolder(Path(folder))), cast(Any, _Steps(clock)))
        objective = ResponseLoss(model)
        with packed_attention(model), fast_linear(model), retain_freed_memory():
            fit(run, objective, _as_drawn(documents, config.seed), "packed")
    return clock.result()


def _as_drawn(documents: list[Document], seed: int) -> list[Document]:
    """The order in which the loop draws `documents` one after the other."""
    drawn = [index for step in range(len(documents) // BATCH) for index in batch_at(step, len(documents), BATCH, seed)]
    placed = dict(zip(drawn, documents, strict=True))
    return [placed[index] for index in range(len(documents))]


# --- the others ---------------------------------------------------------------------------------------------------


def padded_loop(setting: Setting, bf16: bool) -> Result:
    """The loop everybody writes first: padded to the longest, the model's own loss, AdamW."""
    model, clock = setting.load(), Clock()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.0)
    for documents in _effective_batches(setting.documents()):
        (batch,) = micro_batches(documents, layout="padded")
        inputs = {name: getattr(batch, name).to(_device()) for name in ("input_ids", "attention_mask", "labels")}
        with torch.autocast(_device(), torch.bfloat16, enabled=bf16):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.step(sum(map(len, documents)), loss.item())
    return clock.result()


def hf_trainer(setting: Setting, bf16: bool) -> Result:
    """transformers.Trainer with defaults, padding to the longest."""
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    rows = [{"input_ids": each.input_ids, "labels": each.labels} for each in setting.documents()]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(**_trainer_arguments(folder, bf16))
        return _train(Trainer, setting.load(), arguments, Dataset.from_list(rows), data_collator=_pad)


def trl(setting: Setting, bf16: bool, packing: bool, checkpointing: bool) -> Result:
    """trl.SFTTrainer; packing: rows of up to 1,024 tokens, one a step, which is about 8 examples.

    Without flash attention its packed documents see each other (it warns), which is another loss.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    rows = [
        {"input_ids": each.input_ids, "completion_mask": (each.labels != IGNORE_INDEX).astype(int)}
        for each in setting.documents()
    ]
    with tempfile.TemporaryDirectory() as folder:
        options = _trainer_arguments(folder, bf16) | {"completion_only_loss": True, "max_length": 1024}
        options |= {"packing": packing, "gradient_checkpointing": checkpointing}
        if packing:
            options["per_device_train_batch_size"] = 1
        tokenizer = AutoTokenizer.from_pretrained(setting.tokenizer())
        return _train(
            SFTTrainer, setting.load(), SFTConfig(**options), Dataset.from_list(rows), processing_class=tokenizer
        )


CONTENDERS: dict[str, Callable[[Setting], Result]] = {
    "harness fp32": lambda setting: harness_loop(setting, "fp32"),
    "HF Trainer fp32": lambda setting: hf_trainer(setting, False),
    "TRL fp32, default (checkpointing)": lambda setting: trl(setting, False, False, True),
    "TRL fp32, no checkpointing": lambda setting: trl(setting, False, False, False),
    "TRL fp32, packing, default (checkpointing)": lambda setting: trl(setting, False, True, True),
    "TRL fp32, packing, no checkpointing": lambda setting: trl(setting, False, True, False),
    "padded loop fp32": lambda setting: padded_loop(setting, False),
    "harness bf16": lambda setting: harness_loop(setting, "bf16"),
    "HF Trainer bf16": lambda setting: hf_trainer(setting, True),
    "TRL bf16, no checkpointing": lambda setting: trl(setting, True, False, False),
    "TRL bf16, packing, no checkpointing": lambda setting: trl(setting, True, True, False),
    "padded loop bf16": lambda setting: padded_loop(setting, True),
}


def _effective_batches(documents: list[Document]) -> Iterator[list[Document]]:
    for start in range(0, len(documents), BATCH):
        yield documents[start : start + BATCH]


def _trainer_arguments(folder: str, bf16: bool) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "bf16": bf16,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": False,
    }


def _train(trainer_class: Any, model: PreTrainedModel, arguments: Any, dataset: Any, **options: Any) -> Result:
    from transformers import TrainerCallback

    clock = Clock()
    seen: list[tuple[int, float]] = []

    class Counting(trainer_class):
        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
            mask = inputs.get("attention_mask")
            tokens = inputs["input_ids"].numel() if mask is None else int(mask.sum())
            loss = super().training_step(model, inputs, *rest)
            seen.append((tokens, float(loss)))
            return loss

    class Stepping(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step(*seen[-1])

    Counting(model, arguments, train_dataset=dataset, callbacks=[Stepping()], **options).train()
    return clock.result()


def _pad(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    documents = [Document(index, *map(np.array, (row["input_ids"], row["labels"]))) for index, row in enumerate(rows)]
    (batch,) = micro_batches(documents, layout="padded")
    return {name: getattr(batch, name) for name in ("input_ids", "attention_mask", "labels")}
