"""Which type a training computes in, on a machine with a GPU and without."""

from __future__ import annotations

import pytest
import torch

from harness.train import parallel
from harness.train.parallel import tf32, uses_bfloat16


@pytest.mark.parametrize("recipe", ["quick", "finetune"])
def test_the_plain_recipes_train_in_bf16_on_a_gpu_that_has_it(compose, monkeypatch, recipe):
    settings = compose(f"train={recipe}").train
    assert settings.precision == "auto"
    assert not uses_bfloat16(settings)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert uses_bfloat16(settings)
    monkeypatch.setattr(parallel, "supports_bfloat16", lambda: False)
    assert not uses_bfloat16(settings)
    assert uses_bfloat16(compose(f"train={recipe}", "train.precision=bf16").train)


def test_tf32_is_as_the_key_says_while_training_and_as_before_afterwards():
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    for allowed in (True, False):
        with tf32(allowed):
            assert matmul.allow_tf32 is allowed
        assert matmul.allow_tf32 is before
