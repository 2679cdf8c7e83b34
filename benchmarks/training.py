"""Training: tokens per second and peak memory beside HF Trainer, TRL and a plain padded loop.

    python -m benchmarks.training --model FOLDER --data alpaca.json --repeats 4

Every contender trains the same model on the same examples in the same order at an effective batch of 8, in a process
of its own (so that peak memory is its own), one after the other in both orders. A step of warm-up is not counted.
A GPU, where there is one, is used by all of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel

from benchmarks._common import ROOT, both_orders, installed, machine, matmul_rate, spread, table
from harness.attention import packed_attention
from harness.batching import IGNORE_INDEX, Document, micro_batches
from harness.data import Example
from harness.encode import encode_examples
from harness.loss import ResponseLoss

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
    cpu_s: float  # of all threads, for 1,000 real tokens: says more than the clock where others use the machine
    peak_gb: float
    first_loss: float


@dataclass(frozen=True)
class Setting:
    """What every contender is given."""

    model: str | None
    size: str
    data: str
    steps: int
    max_length: int

    def load(self) -> PreTrainedModel:
        """The model in float32; without a folder one of `SIZES` with random weights, as fast as the real ones."""
        torch.manual_seed(0)
        if self.model is not None:
            model: Any = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
            return model.to(_device()).train()
        config = LlamaConfig(**SIZES[self.size], tie_word_embeddings=True, max_position_embeddings=8192)
        return AutoModelForCausalLM.from_config(config).to(_device()).train()

    def documents(self) -> list[Document]:
        """(steps + 1) * 8 examples: rows of the file, or without tokenizer or file lengths like Alpaca's."""
        count = (self.steps + 1) * BATCH
        if self.model is None or not Path(self.data).is_file():
            return _synthetic(count)
        rows = json.loads(Path(self.data).read_text())[:count]
        examples = [Example(row["instruction"], row["input"], row["output"], self.data) for row in rows]
        return encode_examples(examples, AutoTokenizer.from_pretrained(self.model), self.max_length).documents


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


# --- contenders ---------------------------------------------------------------------------------------------------


def harness_loop(setting: Setting, bf16: bool, max_tokens: int = 4096) -> Result:
    """This project: packed micro-batches, attention by document, logits at targets only, fused AdamW."""
    model, clock = setting.load(), Clock()
    objective = ResponseLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.0, fused=True)
    with packed_attention(model):
        for documents in _effective_batches(setting.documents()):
            batches = micro_batches(documents, layout="packed", max_tokens=max_tokens)
            targets = sum(batch.n_targets for batch in batches)
            loss = 0.0
            for batch in batches:
                with torch.autocast(_device(), torch.bfloat16, enabled=bf16):
                    part = objective(batch.to(_device()))[0] / targets
                part.backward()
                loss += part.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            clock.step(sum(map(len, documents)), loss)
    return clock.result()


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
    """transformers.Trainer as it comes, padding to the longest."""
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    rows = [{"input_ids": each.input_ids, "labels": each.labels} for each in setting.documents()]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(**_trainer_arguments(folder, bf16))
        return _train(Trainer, setting.load(), arguments, Dataset.from_list(rows), data_collator=_pad)


def trl(setting: Setting, bf16: bool, packing: bool, checkpointing: bool) -> Result:
    """trl.SFTTrainer; packing: rows of up to 1,024 tokens, one a step, which is about 8 examples."""
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
        tokenizer = AutoTokenizer.from_pretrained(setting.model or ROOT / "harness/assets/tiny_tokenizer")
        return _train(
            SFTTrainer, setting.load(), SFTConfig(**options), Dataset.from_list(rows), processing_class=tokenizer
        )


CONTENDERS: dict[str, Callable[[Setting], Result]] = {
    "harness fp32": lambda setting: harness_loop(setting, False),
    "HF Trainer fp32": lambda setting: hf_trainer(setting, False),
    "TRL fp32, default (checkpointing)": lambda setting: trl(setting, False, False, True),
    "TRL fp32, no checkpointing": lambda setting: trl(setting, False, False, False),
    "TRL fp32, packing": lambda setting: trl(setting, False, True, False),
    "padded loop fp32": lambda setting: padded_loop(setting, False),
    "harness bf16": lambda setting: harness_loop(setting, True),
    "HF Trainer bf16": lambda setting: hf_trainer(setting, True),
    "padded loop bf16": lambda setting: padded_loop(setting, True),
}


# --- how they are run and timed -----------------------------------------------------------------------------------


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


def floor_tokens_per_s(setting: Setting, rate: float) -> float:
    """Tokens per second if nothing but the matrix products were needed, at `rate` FLOP/s.

    6 FLOP for each weight of a layer and token, 6 for each of the head and target, and causal attention within
    documents: 6 * 2 * (hidden size of the queries) * L^2 / 2 a layer.
    """
    model, documents = setting.load(), setting.documents()[BATCH:]
    config = model.config
    layers = sum(each.weight.numel() for each in model.get_decoder().modules() if isinstance(each, torch.nn.Linear))
    tokens = sum(map(len, documents))
    targets = sum(int((each.labels[1:] != IGNORE_INDEX).sum()) for each in documents)
    squares = sum(len(each) ** 2 for each in documents)
    attention = 6 * config.hidden_size * config.num_hidden_layers * squares
    flop = 6 * layers * tokens + 6 * config.vocab_size * config.hidden_size * targets + attention
    return tokens * rate / flop


def run_alone(name: str, setting: Setting) -> Result:
    """One contender in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training", "--alone", name, "--setting", json.dumps(asdict(setting))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-4000:]}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def report(setting: Setting, results: dict[str, list[Result]], rates: dict[str, list[float]]) -> str:
    """The table, ratios taken round by round against the harness in the same precision."""
    rows = []
    for name, rounds in results.items():
        own = results.get("harness bf16" if "bf16" in name else "harness fp32", [])
        ahead = [ours.tokens_per_s / theirs.tokens_per_s for ours, theirs in zip(own, rounds, strict=False)]
        cpu = [theirs.cpu_s / ours.cpu_s for ours, theirs in zip(own, rounds, strict=False)]
        memory = [ours.peak_gb / theirs.peak_gb for ours, theirs in zip(own, rounds, strict=False)]
        rows.append(
            [
                name,
                spread([each.tokens_per_s for each in rounds], 0),
                spread([each.cpu_s for each in rounds], 1),
                spread([each.peak_gb for each in rounds], 1),
                spread(ahead) if ahead else "",
                spread(cpu) if cpu else "",
                spread(memory) if memory else "",
                f"{rounds[0].first_loss:.4f}",
            ]
        )
    header = ["contender", "tokens/s", "CPU s per 1,000", "peak GB"]
    header += ["harness is faster by", "in CPU s", "harness's memory", "first loss"]
    return table(header, rows) + "\n\n" + _floors(setting, results, rates)


def _floors(setting: Setting, results: dict[str, list[Result]], rates: dict[str, list[float]]) -> str:
    lines = []
    for precision, measured in rates.items():
        rounds = results.get(f"harness {precision}", [])
        floors = [floor_tokens_per_s(setting, rate) for rate in measured]
        shares = [100 * each.tokens_per_s / floor for each, floor in zip(rounds, floors, strict=False)]
        lines.append(
            f"Matrix products, {precision}: {spread([rate / 1e9 for rate in measured], 0)} GFLOP/s, which alone would "
            f"allow {spread(floors, 0)} tokens/s; the harness reaches {spread(shares, 0)} %."
        )
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder with model and tokenizer; default: --size with random weights")
    parser.add_argument("--size", choices=list(SIZES), default="135m")
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/alpaca_999.json"))
    parser.add_argument("--steps", type=int, default=2, help="optimiser steps of 8 examples that are timed")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=1, help="rounds; the order is turned round after each")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the contenders and print the table."""
    arguments = _arguments()
    if arguments.alone:
        result = CONTENDERS[arguments.alone](Setting(**json.loads(arguments.setting)))
        print(json.dumps(asdict(result)))
        return
    setting = Setting(arguments.model, arguments.size, arguments.data, arguments.steps, arguments.max_length)
    contenders = arguments.contenders
    if installed("trl") is None:
        contenders = [name for name in contenders if not name.startswith("TRL")]
        print("trl is not installed: without its contenders (pip install trl)", file=sys.stderr)
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    rates: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for name in both_orders(contenders, arguments.repeats):
        if name == contenders[0]:
            rates["fp32"].append(matmul_rate(torch.float32))
            rates["bf16"].append(matmul_rate(torch.bfloat16))
        results[name].append(run_alone(name, setting))
        print(name, results[name][-1], file=sys.stderr, flush=True)
    lengths = [len(each) for each in setting.documents()]
    print(f"{machine()}; trl {installed('trl')}\n")
    print(
        f"Effective batch {BATCH}, {arguments.steps} steps timed after one of warm-up, {arguments.repeats} rounds in "
        f"both orders; documents of {min(lengths)} to {max(lengths)} tokens, mean {np.mean(lengths):.0f}.\n"
    )
    print(report(setting, results, rates))


if __name__ == "__main__":
    main()
