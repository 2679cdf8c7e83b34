"""`harness data [KEY=VALUE ...] [n=3]`: training examples as the model sees them.

Prompt and answer in the layout of training, token by token, with marks on what is learnt and what gets noise. They are
the first of the run's first step. Colours on a terminal: green is learnt, underlined gets noise.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.config import Config
    from harness.data.batching import Batch, Layout
    from harness.data.documents import Documents

_HIDDEN = 8  # width of the stand-in embeddings: enough for random signs or dropout to show on every token


def main(words: Sequence[str], prog: str) -> int:
    """Entry point; exit status 2 with one line for bad input."""
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="settings of a run, such as dataset=alpaca, and n=3"
    )
    parser.add_argument("--heldout", action="store_true", help="show held-out examples instead")
    parser.add_argument("--tokens", action="store_true", help="print one line per token")
    arguments = parser.parse_intermixed_args(words)
    from harness.cli import one_line_of

    try:
        count, overrides = _count(arguments.settings)
        config = _config(overrides)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        for line in lines(config, count, arguments.heldout, arguments.tokens, colour):
            print(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        said = one_line_of(error)
        if said is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        return 2
    return 0


def lines(
    config: Config, count: int, heldout: bool = False, tokens: bool = False, colour: bool = False
) -> Iterator[str]:
    """What the command prints.

    Args:
        config: settings of a run.
        count: number of examples, at least 1.
        heldout: take held-out examples, in order, instead of those of the first training step.
        tokens: one line per token.
        colour: use a terminal's escape sequences.

    Raises:
        ValueError: bad data, or no held-out examples.
    """
    from harness.commands.marks import as_text, as_tokens
    from harness.data.documents import load_documents
    from harness.models.tokenizer import load_tokenizer

    data = load_documents(config.dataset, config.model)
    tokenizer = load_tokenizer(config.model)
    yield from data.notes
    for batch, sources in _batches(config, data, count, heldout):
        rows = _rows(config, batch, tokenizer)
        yield f"{batch.layout}; {_noise(config)}"
        for number, row in enumerate(rows, start=1):
            yield f"row {number} of {len(rows)}: {_counted(row)}; {', '.join(_of_row(row, sources))}"
            yield from (as_tokens if tokens else as_text)(row, tokenizer, colour)


def _count(words: Sequence[str]) -> tuple[int, list[str]]:
    """The number after n=, and the other settings."""
    given = [word.partition("=")[2] for word in words if word.startswith("n=")]
    if given and not (given[-1].isdecimal() and int(given[-1]) > 0):
        raise ValueError(f"n={given[-1]}: a number of examples is 1 or more")
    return int(given[-1]) if given else 3, [word for word in words if not word.startswith("n=")]


def _config(overrides: Sequence[str]) -> Config:
    from harness.config.compose import compose
    from harness.data import go_offline
    from harness.pipeline.plan import config_from

    config = config_from(compose(overrides), overrides)
    if config.offline:
        go_offline()
    return config


def _batches(config: Config, data: Documents, count: int, heldout: bool) -> list[tuple[Batch, list[str]]]:
    """Micro-batches of the examples, and the source of each example."""
    from harness.data.batching import micro_batches
    from harness.train.schedule import batch_at

    if heldout:
        documents, examples = data.heldout[:count], data.heldout_examples
    else:
        first = [batch_at(step, len(data.train), config.train.batch_size, config.seed) for step in range(count)]
        places = [place for step in first for place in step][:count]
        documents, examples = [data.train[place] for place in places], data.train_examples
    if not documents:
        raise ValueError(f"dataset.heldout={config.dataset.heldout}: there are no held-out examples")
    layout: Layout = "padded" if config.train.layout == "padded" else "packed"
    found = micro_batches(documents, layout=layout, max_tokens=config.train.micro_batch_tokens)
    return [(batch, [examples[index].where for index in batch.documents]) for batch in found]


def _rows(config: Config, batch: Batch, tokenizer: Any) -> list[list[Any]]:
    from harness.commands.marks import Token

    noised = noised_tokens(config, batch, tokenizer)
    columns = zip(
        *(each.tolist() for each in (batch.input_ids, batch.attention_mask, batch.document_ids, batch.labels, noised)),
        strict=True,
    )
    return [
        [
            Token(ids, document if real else None, label != -100, noise)
            for ids, real, document, label, noise in zip(*row, strict=True)
        ]
        for row in columns
    ]


def noised_tokens(config: Config, batch: Batch, tokenizer: Any) -> Any:
    """(B, T) bool: which tokens of a batch the run's own noise changes, found by applying it to ones."""
    import torch

    from harness.train.noise import TrainingNoise, noise_of

    noise = noise_of(config)
    stand_in = torch.nn.Embedding(1, _HIDDEN)
    drawn = TrainingNoise(noise, config.seed, stand_in, torch.tensor(tokenizer.all_special_ids)).of(batch, 0, 0.5)
    perturb = drawn.perturbation((0,))
    ones_BTD = torch.ones(*batch.input_ids.shape, _HIDDEN)
    if perturb is None:
        return torch.zeros_like(batch.input_ids, dtype=torch.bool)
    return (perturb(ones_BTD) != ones_BTD).any(-1)


def _noise(config: Config) -> str:
    noise = config.noise
    if noise.method not in ("noise", "rdrop") or noise.distribution == "none":
        others = (
            "no noise" if noise.method == "noise" else f"noise.method={noise.method} adds what it finds by gradients"
        )
        return others if noise.distribution == "none" else f"{others}; marked: where its draw begins"
    return f"noise {noise.name}, alpha {config.alpha:g}, on {noise.where} tokens"


def _counted(row: Sequence[Any]) -> str:
    real = sum(token.document is not None for token in row)
    learnt, noised = sum(token.learnt for token in row), sum(token.noised for token in row)
    padding = f", {len(row) - real} of padding" if real < len(row) else ""
    return f"{real} tokens{padding}, {learnt} learnt, {noised} noised"


def _of_row(row: Sequence[Any], sources: Sequence[str]) -> list[str]:
    return [sources[place] for place in dict.fromkeys(token.document for token in row) if place is not None]
