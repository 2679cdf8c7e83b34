"""A pair in trainers with `use_liger_kernel`: Liger's Triton kernels, run on the CPU by Triton's interpreter.

They need an environment of their own, for torch's CPU build brings no Triton: `make trainers` makes it and runs this.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import ROOT, environment


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Trainer", "SFTTrainer"])
def test_a_pair_is_two_passes_with_ligers_kernels(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("liger_kernel")
    script = str(ROOT / "tests" / "support" / "liger_run.py")
    env = environment(ROOT / "tests", TRITON_INTERPRET="1")
    command = [sys.executable, script, kind, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    # Its rotary embeddings in both; its fused loss in transformers' Trainer alone, TRL has a loss of its own.
    assert ["liger_kernel" in name for name in found["kernels"]] == [True, kind == "Trainer"]
    assert found["loss"] == pytest.approx(1.0, rel=1e-5)
    assert found["gradient"] < 1e-4  # float32
