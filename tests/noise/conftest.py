"""A tiny model and a batch with padding, as most tests of the noise take them."""

from __future__ import annotations

import pytest
import torch
from support.noised import Batch
from support.tiny_models import VOCABULARY, tiny_model
from transformers import PreTrainedModel


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny_model("llama", torch.float64)


@pytest.fixture
def batch() -> Batch:
    """Two rows: 6 tokens with a prompt of 2, and 4 tokens with padding on the right."""
    ids = torch.randint(2, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :2] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
