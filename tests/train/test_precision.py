"""Which type a training computes in, on a machine with a GPU and without."""

from __future__ import annotations

import pytest
import torch

from harness.cli import main
from harness.train import parallel
from harness.train.checks import slow_precision
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


X86 = {"architecture": "x86_64", "cpu_name": "Unknown", "avx512_bf16": False, "amx_bf16": False}


@pytest.mark.parametrize(
    ("processor", "is_slower"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, False),  # Sapphire Rapids
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True}, True),  # the same in a virtual machine without AMX
        ({"cpu_name": "Intel Xeon"}, True),  # Skylake
        ({"cpu_name": "AMD Genoa", "avx512_bf16": True}, False),  # Zen 4
        ({"cpu_name": "AMD Milan"}, True),  # Zen 3
        ({"architecture": "arm64"}, False),  # not known
    ],
)
def test_a_warning_where_a_processor_is_slower_in_bfloat16(compose, monkeypatch, processor, is_slower):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: X86 | processor)
    half, whole = (compose("train=finetune", f"train.precision={each}").train for each in ("bf16", "fp32"))
    assert [line.split()[1] for line in slow_precision([whole, half])] == ["train.precision=bf16"] * is_slower
    assert slow_precision([whole]) == []


def test_the_warning_comes_before_a_run_and_not_where_nothing_is_trained(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: X86)
    monkeypatch.chdir(tmp_path)
    small = ["eval_set.heldout=30", "eval_set.unseen=4", "generate.max_new_tokens=2", "tracking=disabled"]
    words = ["model=tiny", "noise=none", "train.max_steps=1", "train.precision=bf16", *small]
    monkeypatch.setattr("sys.argv", ["harness", *words, "stages=[train]"])
    main()
    assert "warning: train.precision=bf16 is slower" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["harness", *words, "stages=[train,generate]"])
    main()
    assert "slower" not in capsys.readouterr().err


def test_tf32_is_as_the_key_says_while_training_and_as_before_afterwards():
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    for allowed in (True, False):
        with tf32(allowed):
            assert matmul.allow_tf32 is allowed
        assert matmul.allow_tf32 is before
