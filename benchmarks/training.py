"""Training: tokens per second and peak memory beside HF Trainer, TRL and a plain padded loop.

    python -m benchmarks.training --model FOLDER --data alpaca.json --repeats 4 --save results/training.jsonl
    python -m benchmarks.training --report results/training.jsonl

Every contender (benchmarks/contenders.py) trains the same model on the same examples in the same order at an effective
batch of 8, in a process of its own (so that peak memory is its own), one after the other in both orders. A step of
warm-up is not counted. `--save` appends every round to a file, so a measurement can be spread over several quiet
stretches of a shared machine, whole rounds at a time: ratios are taken within a round; `--report` prints its table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._common import (
    ROOT,
    append_line,
    both_orders,
    installed,
    matmul_rate,
    read_lines,
    spread,
    table,
)
from benchmarks.contenders import BATCH, CONTENDERS, SIZES, Result, Setting
from harness.data.batching import IGNORE_INDEX
from harness.models.onednn import onednn_is_faster


def run_alone(name: str, setting: Setting) -> Result:
    """One contender in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training", "--alone", name, "--setting", json.dumps(asdict(setting))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def measure(setting: Setting, contenders: list[str], repeats: int, file: Path) -> None:
    """Append `repeats` rounds of the contenders to the file, turning the order round after each."""
    first = 1 + max((line["round"] for line in read_lines(file)), default=-1)
    order = contenders if first % 2 == 0 else contenders[::-1]
    described = describe(setting)
    for number, name in enumerate(both_orders(order, repeats)):
        line: dict[str, Any] = {"round": first + number // len(order), "setting": described}
        if number % len(order) == 0:
            append_line(file, line | {"matmul": matmul_rates(contenders), "trl": installed("trl")})
        try:
            outcome: dict[str, Any] = {"result": asdict(run_alone(name, setting))}
        except RuntimeError as error:  # on a small machine the others may run out of memory: recorded, not hidden
            outcome = {"failed": str(error)}
        append_line(file, line | {"contender": name} | outcome)
        print(name, outcome, file=sys.stderr, flush=True)


def describe(setting: Setting) -> dict[str, Any]:
    """The setting as it is recorded: names instead of paths, the documents' lengths, FLOPs a real token."""
    lengths = [len(each) for each in setting.documents()]
    files = {key: value and Path(value).name for key, value in (("model", setting.model), ("data", setting.data))}
    figures = {"shortest": min(lengths), "longest": max(lengths), "mean": round(float(np.mean(lengths)), 1)}
    return asdict(setting) | files | figures | {"flop_per_token": flop_per_token(setting)}


def matmul_rates(contenders: list[str]) -> dict[str, float]:
    """FLOP/s of matrix products in the precisions of the contenders, in float32 by torch's own and by oneDNN."""
    rates = {each: matmul_rate(_DTYPES[each]) for each in _DTYPES if any(each in name for name in contenders)}
    if "fp32" in rates and onednn_is_faster():
        rates["fp32 through oneDNN"] = matmul_rate(torch.float32, fast=True)
    return rates


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def flop_per_token(setting: Setting) -> float:
    """What the matrix products alone take, a real token.

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
    return (6 * layers * tokens + 6 * config.vocab_size * config.hidden_size * targets + attention) / tokens


def report(lines: list[dict[str, Any]]) -> str:
    """All rounds of a file: machine, what was trained on, the table, the floors.

    Raises:
        ValueError: the file mixes settings, so its rounds cannot be compared.
    """
    settings = {json.dumps(line["setting"], sort_keys=True) for line in lines}
    if len(settings) != 1:
        raise ValueError(f"{len(settings)} different settings in one file, expected 1: {sorted(settings)}")
    setting = lines[0]["setting"]
    rounds = len({line["round"] for line in lines})
    trl = ", ".join(sorted({str(line["trl"]) for line in lines if "matmul" in line}))
    return "\n".join(
        [
            *sorted({f"{line['machine']}; trl {trl}" for line in lines}),
            "",
            f"{setting['model'] or 'random weights of size ' + setting['size']}; effective batch {BATCH}, "
            f"{setting['steps']} steps timed after one of warm-up, {rounds} rounds in both orders; documents of "
            f"{setting['shortest']} to {setting['longest']} tokens, mean {setting['mean']:.0f}; "
            "median (lowest-highest).",
            "",
            _table(lines),
            "",
            *_floors(lines, setting["flop_per_token"]),
            *(f"Round {each['round']}: {each['failed'].splitlines()[0]}" for each in lines if "failed" in each),
        ]
    )


def _table(lines: list[dict[str, Any]]) -> str:
    """Ratios against the harness in the same precision, within each round."""
    rounds: dict[str, dict[int, Result]] = {}
    for line in lines:
        if "result" in line:
            rounds.setdefault(line["contender"], {})[line["round"]] = Result(**line["result"])
    rows = []
    for name in sorted(rounds, key=list(CONTENDERS).index):
        own, theirs = rounds.get(f"harness {_precision(name)}", {}), rounds[name]
        both = sorted(own.keys() & theirs.keys())
        ratios = [
            [own[each].tokens_per_s / theirs[each].tokens_per_s for each in both],
            [theirs[each].cpu_s / own[each].cpu_s for each in both],
            [own[each].peak_gb / theirs[each].peak_gb for each in both],
        ]
        rows.append(
            [
                name,
                spread([each.tokens_per_s for each in theirs.values()], 0),
                spread([each.cpu_s for each in theirs.values()], 1),
                spread([each.peak_gb for each in theirs.values()], 1),
                *(spread(ratio) if both else "" for ratio in ratios),
                f"{next(iter(theirs.values())).first_loss:.4f}",
            ]
        )
    header = ["contender", "tokens/s", "CPU s per 1,000", "peak GB"]
    return table([*header, "harness is faster by", "in CPU s", "harness's memory", "first loss"], rows)


def _precision(name: str) -> str:
    return "bf16" if "bf16" in name else "fp32"


def shares_of_floor(lines: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Percent of what a rate of matrix products alone would allow that the harness reaches, by rate, a round each."""
    rates = {line["round"]: line["matmul"] for line in lines if "matmul" in line}
    found: dict[str, list[float]] = {}
    for line in (line for line in lines if "result" in line):
        for label, rate in rates[line["round"]].items():
            if line["contender"] == f"harness {_precision(label)}":
                share = 100 * line["result"]["tokens_per_s"] * line["setting"]["flop_per_token"] / rate
                found.setdefault(label, []).append(share)
    return found


def _floors(lines: list[dict[str, Any]], flop: float) -> list[str]:
    """What each rate of matrix products would allow, and the share of it that the harness reaches."""
    found = []
    for label, shares in shares_of_floor(lines).items():
        measured = [line["matmul"][label] for line in lines if label in line.get("matmul", {})]
        found.append(
            f"Matrix products, {label}: {spread([rate / 1e9 for rate in measured], 0)} GFLOP/s, which alone "
            f"would allow {spread([rate / flop for rate in measured], 0)} tokens/s; "
            f"the harness reaches {spread(shares, 0)} %."
        )
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder with model and tokenizer; default: --size with random weights")
    parser.add_argument("--size", choices=list(SIZES), default="135m")
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/alpaca_999.json"))
    parser.add_argument("--steps", type=int, default=2, help="optimiser steps of 8 examples that are timed")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--attention", default="sdpa", help="of the contenders that use transformers' own")
    parser.add_argument("--repeats", type=int, default=1, help="rounds; the order is turned round after each")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--save", type=Path, help="file of JSON lines to which each round is added")
    parser.add_argument("--report", type=Path, help="print the table of such a file and measure nothing")
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
    if arguments.report:
        print(report(read_lines(arguments.report)))
        return
    keys = ("model", "size", "data", "steps", "max_length", "attention")
    setting = Setting(**{key: getattr(arguments, key) for key in keys})
    contenders = arguments.contenders
    if installed("trl") is None:
        contenders = [name for name in contenders if not name.startswith("TRL")]
        print("trl is not installed: without its contenders (pip install trl)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        file = arguments.save or Path(folder) / "rounds.jsonl"
        measure(setting, contenders, arguments.repeats, file)
        print(report(read_lines(file)))


if __name__ == "__main__":
    main()
