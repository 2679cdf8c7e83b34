"""Generation: tokens per second of the engine beside transformers' `generate`, and whether the text is the same.

    python -m benchmarks.generation --model FOLDER --data reference_davinci003.json --prompts 64 --new-tokens 256

Every contender answers the same instructions greedily with repetition penalty 1.2; "one by one" answers only
`--one-by-one` of them, spread evenly, because it is slow, and is the reference for the text. Contenders take turns,
forwards and backwards, in one process, and ratios are taken round by round. Rates count generated tokens and include
reading the prompts. `--threads 1 --clock cpu` is steadier on a shared machine. A GPU is used if there is one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks._common import ROOT, both_orders, machine, spread, table
from harness.config import EvalSetConfig
from harness.data import load_eval_items
from harness.data.prompts import alpaca
from harness.generate.backends import Completion, GenerationSettings, generate
from harness.models.onednn import product

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
ONE_BY_ONE = "generate, one by one"
PENALTY = 1.2


@dataclass(frozen=True)
class Setting:
    """The input of every contender."""

    model: Any
    prompts: list[list[int]]
    eos: int
    new_tokens: int
    sample: range  # the prompts that "one by one" answers
    clock: Callable[[], float]


@dataclass
class Round:
    """One contender's answers by prompt index, and its seconds."""

    answers: dict[int, Completion]
    seconds: float

    @property
    def tokens(self) -> int:
        """Generated tokens, end tokens included."""
        return sum(len(answer.token_ids) + (answer.finish_reason == "stop") for answer in self.answers.values())

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds


def contenders(batch_sizes: Sequence[int], slots: Sequence[int]) -> dict[str, tuple[str, int]]:
    """Label -> backend and rows decoded together; backend "" is `generate` itself on single prompts."""
    listed = {ONE_BY_ONE: ("", 1)}
    listed |= {f"generate, sorted batches of {size}": ("transformers", size) for size in batch_sizes}
    return listed | {f"engine, {size} slots": ("engine", size) for size in slots}


def run(setting: Setting, backend: str, rows: int) -> Round:
    """One contender once."""
    if not backend:
        return one_by_one(setting)
    settings = GenerationSettings(
        max_new_tokens=setting.new_tokens,
        repetition_penalty=PENALTY,
        batch_size=rows,
        backend=backend,  # type: ignore[arg-type]
    )
    start = setting.clock()
    answers = generate(setting.model, setting.prompts, settings, setting.eos, setting.eos)
    return Round(dict(enumerate(answers)), setting.clock() - start)


def one_by_one(setting: Setting) -> Round:
    """`generate` with defaults, one prompt at a time."""
    answers = {}
    start = setting.clock()
    for index in setting.sample:
        prompt = torch.tensor([setting.prompts[index]], device=setting.model.device)
        sequence = setting.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            repetition_penalty=PENALTY,
            max_new_tokens=setting.new_tokens,
            eos_token_id=setting.eos,
            pad_token_id=setting.eos,
        )
        answer = sequence[0, prompt.shape[1] :].tolist()
        ended = answer[-1] == setting.eos
        answers[index] = Completion(answer[:-1] if ended else answer, "stop" if ended else "length", "generate")
    return Round(answers, setting.clock() - start)


def same_text(ours: Round, reference: Round) -> str:
    """How many of the answers that both gave are equal."""
    both = ours.answers.keys() & reference.answers.keys()
    equal = sum(ours.answers[index].token_ids == reference.answers[index].token_ids for index in both)
    return f"{equal} of {len(both)}"


def matmul_rate(setting: Setting, rows: int = 1024, repeats: int = 10) -> float:
    """FLOP/s of a linear layer of this model on many rows, the best of `repeats`: the ceiling of generation.

    By the faster library (harness/models/onednn.py).
    """
    weight = setting.model.model.layers[0].mlp.gate_proj.weight
    x = torch.randn(rows, weight.shape[1], device=weight.device).to(weight.dtype)
    seconds = []
    for _ in range(repeats):
        start = setting.clock()
        for _ in range(20):
            product(x, weight)
        if weight.is_cuda:
            torch.cuda.synchronize()
        seconds.append(setting.clock() - start)
    return 20 * 2 * rows * weight.numel() / min(seconds)


def floor_seconds(setting: Setting, done: Round, rate: float) -> float:
    """Seconds that the products with the weights alone take at `rate` FLOP/s: 2 FLOP a weight and token.

    Every prompt token goes through the layers, and every generated token but an answer's last; each generated token
    needs the head once. Attention is left out.
    """
    linear = [module for module in setting.model.model.modules() if isinstance(module, torch.nn.Linear)]
    layers, head = sum(module.weight.numel() for module in linear), setting.model.lm_head.weight.numel()
    read = sum(len(setting.prompts[index]) - 1 for index in done.answers)
    return 2 * (layers * (read + done.tokens) + head * done.tokens) / rate


def report(setting: Setting, rounds: dict[str, list[Round]], baseline: str, rate: float) -> str:
    """The table: ratios against `baseline` and one by one, round by round, and the share of the floor."""
    reference = rounds.get(ONE_BY_ONE)
    lines = []
    for name, own in rounds.items():
        ratios = {
            other: [ours.tokens_per_s / theirs.tokens_per_s for ours, theirs in zip(own, rounds[other], strict=True)]
            for other in (baseline, ONE_BY_ONE)
            if other in rounds
        }
        shares = [100 * floor_seconds(setting, each, rate) / each.seconds for each in own]
        lines.append(
            [
                name,
                spread([each.tokens_per_s for each in own], 1),
                spread(ratios[baseline]) if baseline in ratios else "",
                spread(ratios[ONE_BY_ONE], 1) if ONE_BY_ONE in ratios else "",
                spread(shares, 0),
                same_text(own[0], rounds[baseline][0]) if baseline in rounds else "",
                same_text(own[0], reference[0]) if reference else "",
            ]
        )
    header = ["contender", "tokens/s", f"times {baseline}", "times one by one", "% of the floor"]
    return table([*header, "same text as batches", "same text as one by one"], lines)


def read_setting(arguments: argparse.Namespace) -> Setting:
    """Model, and the prompts in the model's chat template, evenly spread over the data."""
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype))
    model.to(device).eval()
    texts = [_prompt(tokenizer, each) for each in _instructions(arguments.data, arguments.prompts)]
    prompts = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    sample = range(0, len(prompts), max(1, len(prompts) // max(1, arguments.one_by_one)))
    return Setting(model.eval(), prompts, tokenizer.eos_token_id, arguments.new_tokens, sample, CLOCKS[arguments.clock])


def _instructions(file: str | None, count: int) -> list[str]:
    """Evenly spread over the file's rows; without a file the builtin tasks' instructions."""
    if file is None:
        return [item.text for item in load_eval_items(EvalSetConfig(name="builtin", heldout=count))]
    rows = json.loads(Path(file).read_text(encoding="utf-8"))
    return [row["instruction"] for row in rows[:: len(rows) // count][:count]]


def _prompt(tokenizer: Any, instruction: str) -> str:
    """The prompts in the model's chat template, or in Alpaca's if it has none."""
    if tokenizer.chat_template is None:
        return alpaca(instruction, "")
    chat = [{"role": "user", "content": instruction}]
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "harness/assets/tiny_base"), help="folder of a Llama-like model")
    parser.add_argument("--data", help="JSON rows with an instruction each; default: the builtin tasks")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--one-by-one", type=int, default=8, help="prompts that one by one answers; 0: leave it out")
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[32])
    parser.add_argument("--slots", type=int, nargs="*", default=[32, 64])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    setting = read_setting(arguments)
    listed = contenders(arguments.batch_sizes, arguments.slots)
    if not arguments.one_by_one:
        del listed[ONE_BY_ONE]
    rounds: dict[str, list[Round]] = {name: [] for name in listed}
    for name in both_orders(list(listed), arguments.repeats):
        rounds[name].append(run(setting, *listed[name]))
        print(f"{name}: {rounds[name][-1].tokens_per_s:.1f} tokens/s", flush=True)
    rate = matmul_rate(setting)
    read = sum(map(len, setting.prompts))
    baseline = next((name for name in listed if name.startswith("generate, sorted")), ONE_BY_ONE)
    print(f"\n{machine()}; {arguments.threads} threads, {arguments.clock} clock\n")
    print(
        f"{len(setting.prompts)} prompts of {read} tokens, up to {setting.new_tokens} new tokens each, "
        f"{arguments.dtype}; the floor: products with the weights alone, at {rate / 1e9:.0f} GFLOP/s\n"
    )
    print(report(setting, rounds, baseline, rate))


if __name__ == "__main__":
    main()
