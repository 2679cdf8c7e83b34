"""Pretrain the base model of the package: `python -m experiments.tiny_base.pretrain` (`--help` lists the options).

A small Llama learns plain statements (corpus.py), cut into full rows of tokens, next-token loss everywhere. Step
n reads a piece of the corpus that is drawn from (seed, n) alone: an interrupted run continues from its last
checkpoint as if it had not stopped. The card of the shipped model, assets/tiny_base/README.md, has the figures.

B rows, T tokens of a row, V tokens of the vocabulary.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW, Muon, Optimizer
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.tiny_base.precision import bf16_supported
from harness.config.paths import ASSETS
from harness.data.builtin.corpus import paragraphs
from harness.models.save import save_model
from harness.record import write_text
from harness.train.checkpoint import load_checkpoint, save_checkpoint

FOLDER = ASSETS / "tiny_base"
# Training text has its own seeds, far from those of evaluation and of the tokenizer.
_CORPUS_SEED, _EVALUATION_SEED = 1_000_003, 999_983


@dataclass(frozen=True)
class Settings:
    """What the model depends on; `tokens` may change when a run is resumed, and moves the schedule's end."""

    tokens: int = 40_000_000  # of the whole training
    seed: int = 0
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    intermediate_size: int = 384
    token_norm: float = 2.5  # of the initial embeddings: noise then counts as in SmolLM2, see the card
    batch_tokens: int = 4096
    adam_lr: float = 3e-3  # embeddings, head, norms
    muon_lr: float = 1e-2  # matrices of the layers
    weight_decay: float = 0.05
    warmup_ratio: float = 0.02
    decay_ratio: float = 0.4  # of the steps, at the end: linear to 0; before it the rate is constant
    start: str = ""  # folder of a model to go on from, its residual stream scaled by `start_scale`; "": random weights
    start_scale: float = 1.0
    bf16: bool = True  # autocast, where the hardware has it
    compile: bool = False  # torch.compile: 1.5 times as fast on one core, needs a C++ compiler

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return max(1, self.tokens // self.batch_tokens)


def build(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The model before training: seeded, tokens of norm `token_norm`, input and output embeddings untied."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate_size,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # for short rows on a CPU faster than the fused kernel
    std = settings.token_norm * settings.hidden_size**-0.5
    torch.nn.init.normal_(model.get_parameter("model.embed_tokens.weight"), std=std)
    if settings.start:
        _start_from(Path(settings.start), model, settings.start_scale)
    return model


@torch.no_grad()
def _start_from(folder: Path, model: LlamaForCausalLM, scale: float) -> None:
    """Load another model's weights; embeddings and all that is added to them are `scale` times as long.

    The norms before every layer and before the head undo the scale, so the function is the same (up to their
    epsilon), while noise of a given alpha is `1 / scale` as strong to it.
    """
    started = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.load_state_dict(started.state_dict())
    for name, weight in model.named_parameters():
        if name.endswith(("embed_tokens.weight", "o_proj.weight", "down_proj.weight")):
            weight.mul_(scale)


def batch_of(step: int, settings: Settings, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """(B, T) token ids of a step: paragraphs end to end, each `<bos> ... <eos>`, the last one cut.

    Every fourth step has rows of 256 tokens, the others of 128: most of the speed of short rows, and positions
    as far as the longest examples of the builtin set.
    """
    length = 256 if step % 4 == 3 else 128
    stream = paragraphs((settings.seed + 1) * _CORPUS_SEED + step)
    return _rows(stream, settings.batch_tokens // length, length, tokenizer)


def _rows(stream: Iterable[str], rows: int, length: int, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    tokens: list[int] = []
    for text in stream:
        tokens += [*tokenizer.backend_tokenizer.encode(text).ids, tokenizer.eos_token_id]
        if len(tokens) >= rows * length:
            break
    return torch.tensor(tokens[: rows * length]).view(rows, length)


def loss_of(model: LlamaForCausalLM, ids_BT: Tensor) -> Tensor:
    """Mean next-token cross-entropy, nats."""
    logits_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT[:, 1:].flatten())


def optimizers_of(model: LlamaForCausalLM, settings: Settings) -> list[Optimizer]:
    """Muon (Jordan et al. 2024) for the layers' matrices, AdamW for the rest; initial_lr is the peak."""
    matrices = [each for each in model.model.layers.parameters() if each.ndim == 2]
    chosen = set(map(id, matrices))
    others = [each for each in model.parameters() if id(each) not in chosen]
    made: list[Optimizer] = [
        AdamW(others, settings.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        Muon(
            matrices,
            settings.muon_lr,
            weight_decay=settings.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
    ]
    for optimizer in made:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return made


def pretrain(settings: Settings, folder: Path, *, checkpoint_minutes: float = 3.0, device: str = "cpu") -> Path:
    """Train, or continue from folder/checkpoints; write log.jsonl on the way and folder/model at the end.

    The checkpoint stays: a finished run goes on where it is called again with more tokens.

    Raises:
        ValueError: the checkpoint there is of other settings than these.
    """
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(ASSETS / "tiny_tokenizer")  # type: ignore[assignment]
    model = build(settings, tokenizer)
    model.to(device)  # type: ignore[arg-type]
    optimizers = optimizers_of(model, settings)
    step, seconds, rows = _resume(folder, settings, model, optimizers)
    saved, began = time.monotonic(), time.monotonic() - seconds
    losses: list[float] = []
    objective = torch.compile(loss_of, dynamic=False) if settings.compile else loss_of
    while step < settings.steps:
        losses.append(_train_step(model, objective, optimizers, step, settings, tokenizer))
        step += 1
        if step % 50 == 0 or step == settings.steps:
            rows.append(_log_row(step, settings, losses, time.monotonic() - began))
            write_text(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
            print(rows[-1], flush=True)
            losses.clear()
        if time.monotonic() - saved >= 60 * checkpoint_minutes or step == settings.steps:
            save_checkpoint(folder / "checkpoints", step, _fingerprint(settings), model, optimizers, keep=1)
            saved = time.monotonic()
    print("loss on new text", evaluate(model, tokenizer), flush=True)
    save_model(model, tokenizer, folder / "model")
    return folder / "model"


def _train_step(
    model: LlamaForCausalLM,
    objective: Callable[[LlamaForCausalLM, Tensor], Tensor],
    optimizers: list[Optimizer],
    step: int,
    settings: Settings,
    tokenizer: PreTrainedTokenizerFast,
) -> float:
    device = model.device
    ids_BT = batch_of(step, settings, tokenizer).to(device)
    autocast = settings.bf16 and bf16_supported(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        loss = objective(model, ids_BT)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    factor = rate(step, settings)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


@torch.no_grad()
def evaluate(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Mean loss (nats per token) on paragraphs that no training step draws; chance repeats are possible."""
    ids_BT = _rows(paragraphs(_EVALUATION_SEED), 128, 128, tokenizer).to(model.device)
    return sum(float(loss_of(model, rows)) for rows in ids_BT.split(16)) / 8


def rate(step: int, settings: Settings) -> float:
    """Learning rate of a step as a share of the peak: linear up, constant, linear to 0 at the end."""
    warmup, decay = (max(1.0, share * settings.steps) for share in (settings.warmup_ratio, settings.decay_ratio))
    return min(1.0, (step + 1) / warmup, (settings.steps - step) / decay)


def _log_row(step: int, settings: Settings, losses: list[float], seconds: float) -> dict[str, float]:
    mean = sum(losses) / len(losses)
    return {
        "step": step,
        "tokens": step * settings.batch_tokens,
        "loss": round(mean, 4),
        "seconds": round(seconds),
    }


def _resume(
    folder: Path, settings: Settings, model: LlamaForCausalLM, optimizers: list[Optimizer]
) -> tuple[int, float, list[dict[str, float]]]:
    """Step, seconds so far and log rows of the newest checkpoint, whose state is loaded; 0, 0, [] without one."""
    folder.mkdir(parents=True, exist_ok=True)
    step, _, refused = load_checkpoint(folder / "checkpoints", _fingerprint(settings), model, optimizers)
    if refused:
        raise ValueError(f"{refused[0]}: choose another folder or remove it")
    log = folder / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if step and log.exists() else []
    rows = [row for row in rows if row["step"] <= step]
    return step, rows[-1]["seconds"] if rows else 0.0, rows


def _fingerprint(settings: Settings) -> str:
    """Everything but what moves the end of the schedule, and what only makes it faster."""
    free = {"tokens", "decay_ratio", "compile"}
    return json.dumps({key: value for key, value in asdict(settings).items() if key not in free}, sort_keys=True)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tiny_base.pretrain", description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/tiny_base"), help="checkpoint, log and model")
    defaults = asdict(Settings())
    for name, default in defaults.items():
        kind = (lambda text: text == "true") if isinstance(default, bool) else type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=f"{default}")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = Settings(**{name: getattr(arguments, name) for name in defaults})
    print(f"the model is in {pretrain(settings, arguments.folder, device=device)}")


if __name__ == "__main__":
    main()
