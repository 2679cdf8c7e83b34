"""`python -m harness.noise ratio`: ratios by hand, the command on the package's own model, and what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from support.commands import environment

from harness.data.batching import Document
from harness.noise import Noise
from harness.noise.__main__ import main
from harness.train.ratio import ratios_of

NONE = torch.tensor([], dtype=torch.long)


def table() -> torch.nn.Embedding:
    """Token 0 has norm 5, token 1 norm 1."""
    return torch.nn.Embedding.from_pretrained(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))


def document(index: int, *ids: int, prompt: int = 0) -> Document:
    tokens = np.array(ids)
    return Document(index, tokens, np.where(np.arange(len(ids)) < prompt, -100, tokens))


def test_ratios_by_hand() -> None:
    documents = [document(0, 0, 0, 1, 1), document(1, 0)]
    found = ratios_of(table(), documents, Noise("rademacher", 1.0), NONE, 0)
    # Norms of all embeddings sqrt(25 + 25 + 1 + 1) and 5; that of random signs is alpha.
    assert found.embedding.tolist() == pytest.approx([math.sqrt(52), 5])
    assert found.token.tolist() == pytest.approx([3, 5])
    assert found.ratio.tolist() == pytest.approx([1 / math.sqrt(52), 1 / 5])
    assert found.at(10).tolist() == pytest.approx([10 / math.sqrt(52), 2])
    assert found.alpha_for(0.4) == pytest.approx(0.4 / np.mean([1 / math.sqrt(52), 1 / 5]))
    relative = ratios_of(table(), documents, Noise("rademacher", 1.0, "relative"), NONE, 0)
    assert relative.ratio.tolist() == pytest.approx([3 / math.sqrt(3 * 52), 1 / math.sqrt(3)])


def test_only_the_noised_tokens_count_and_dropout_has_no_alpha() -> None:
    half = [document(0, 0, 0, 1, 1, prompt=2)]
    found = ratios_of(table(), half, Noise("rademacher", 1.0, where="response"), NONE, 0)
    assert found.ratio.tolist() == pytest.approx([math.sqrt(1 / 2) / math.sqrt(52)])
    special = ratios_of(table(), half, Noise("rademacher", 1.0, special_tokens=False), torch.tensor([1]), 0)
    assert special.ratio.tolist() == pytest.approx([math.sqrt(1 / 2) / math.sqrt(52)])
    dropout = ratios_of(table(), half, Noise("dropout", rate=0.5), NONE, 0)
    assert np.array_equal(dropout.at(1), dropout.at(5))


def test_the_command_prints_ratios_by_document_and_the_alphas_that_give_some() -> None:
    command = [sys.executable, "-m", "harness.noise", "ratio", "tiny_base", "builtin", "--documents=40", "--json"]
    done = subprocess.run(
        [*command, "--alphas=5,10", "--ratios=0.2"], env=environment(), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["documents"] == 40
    assert found["ratio"]["10"]["0.5"] == pytest.approx(2 * found["ratio"]["5"]["0.5"])
    # Uniform noise: alpha / sqrt(3) over the norm of the embeddings.
    assert found["ratio"]["5"]["0.5"] == pytest.approx(5 / math.sqrt(3) / found["embedding_norm"]["0.5"], rel=0.05)
    assert found["alpha"]["0.2"] == pytest.approx(0.2 / found["ratio"]["5"]["0.5"] * 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothere", "builtin"], "error: model nothere: neither a name of conf/model nor a file or folder"),
        (["tiny_base", "nothere.json"], "error: dataset nothere.json: neither"),
        (["tiny_base", "builtin", "noise=none"], "error: noise=none: adds no noise"),
        (["tiny_base", "builtin", "noise=nois"], "error: "),
        (["tiny_base", "builtin", "alpha=-1"], "error: alpha=-1"),
        (["tiny_base", "builtin", "--documents=0"], "error: --documents 0: 1 or more"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: Any) -> None:
    assert main(["ratio", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert len(error.splitlines()) == 1
