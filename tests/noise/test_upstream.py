"""The patch that docs/upstream offers to transformers (issue 34659), applied to the installed hook and trained with."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers.trainer
from support.commands import ROOT
from support.sft import LENGTHS, documents, rows, trainer_of
from support.tiny_models import tiny_model
from torch import Tensor
from transformers import TrainerCallback
from transformers.integrations import neftune

from harness.noise import Noise, NoiseReport
from harness.noise.verification import Watch

pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")
PATCH = ROOT / "docs" / "upstream" / "transformers-34659.patch"
ALPHA = 5.0


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """transformers' own file of the release that is installed, with the patch on it."""
    folder = tmp_path_factory.mktemp("transformers")
    target = folder / "src" / "transformers" / "integrations" / "neftune.py"
    target.parent.mkdir(parents=True)
    shutil.copy(str(neftune.__file__), target)
    subprocess.run(["git", "apply", str(PATCH)], cwd=folder, check=True)
    name = "transformers.integrations.neftune_patched"  # its relative imports stay true
    spec = importlib.util.spec_from_file_location(name, target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop(name, None)


class Look(TrainerCallback):
    """Watches the first training pass, after the Trainer has attached its own noise."""

    def on_step_begin(self, *_args: Any, model: Any, **_kwargs: Any) -> None:
        self.watch = Watch(model, Noise(alpha=ALPHA)).__enter__()

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        self.watch.__exit__()
        self.report = self.watch.report()


def seen(folder: Path, **settings: Any) -> NoiseReport:
    """What TRL's SFTTrainer with neftune_noise_alpha puts into one batch of documents of 5 to 12 tokens."""
    model, look = tiny_model("llama"), Look()
    trainer_of(model, folder, [look], rows(), neftune_noise_alpha=ALPHA, learning_rate=0.0, **settings).train()
    embedding = model.get_input_embeddings()
    assert not embedding._forward_hooks
    assert not model._forward_pre_hooks
    assert not any(name.startswith("neftune") for name in vars(embedding))
    return look.report


@pytest.mark.parametrize("layout", [{}, {"padding_free": True}, {"packing": True, "max_length": 40}], ids=str)
def test_every_document_gets_its_own_length(
    patched: ModuleType, layout: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    before = seen(tmp_path, **layout)
    assert not before.right
    assert before.length == ("row" if layout else "padded")
    monkeypatch.setattr(transformers.trainer, "activate_neftune", patched.activate_neftune)
    monkeypatch.setattr(transformers.trainer, "deactivate_neftune", patched.deactivate_neftune)
    after = seen(tmp_path, **layout)
    assert after.right
    assert (after.length, after.noised_padding, sorted(after.lengths)) == ("true", 0, sorted(LENGTHS))
    # 1 / sqrt(2 L d) is 6% for 5 tokens of 32.
    assert after.realised == pytest.approx((1, 1, 1), rel=0.15)


def test_a_full_batch_is_noised_as_before(patched: ModuleType) -> None:
    ids = torch.tensor([document[:5] for document in documents()])

    def noised(source: ModuleType) -> Tensor:
        model = tiny_model("llama")
        source.activate_neftune(model, ALPHA)
        embedding = model.get_input_embeddings()
        given: list[Tensor] = []
        embedding.register_forward_hook(lambda _m, _a, output: given.append(output.detach()))
        torch.manual_seed(1)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
        return given[0]

    torch.testing.assert_close(noised(patched), noised(neftune), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({}, [[4, 4, 4, 4], [4, 4, 4, 4]]),
        ({"attention_mask": [[1, 1, 1, 0], [0, 0, 1, 1]]}, [[3, 3, 3, 0], [0, 0, 2, 2]]),
        ({"position_ids": [[0, 1, 2, 3]]}, [[4, 4, 4, 4], [4, 4, 4, 4]]),
        # Padding that is numbered 0 is no document, whether the row is packed or not.
        (
            {"position_ids": [[0, 1, 0, 0], [0, 0, 1, 2]], "attention_mask": [[1, 1, 1, 0], [0, 1, 1, 1]]},
            [[2, 2, 1, 0], [0, 3, 3, 3]],
        ),
    ],
)
def test_lengths_of_documents(patched: ModuleType, call: dict[str, Any], expected: list[list[int]]) -> None:
    given = {key: torch.tensor(value) for key, value in call.items()}
    found = patched.lengths_of_documents(torch.ones(2, 4, dtype=torch.long), **given)
    assert found.tolist() == expected


def test_lengths_of_a_flat_row(patched: ModuleType) -> None:
    ids = torch.ones(1, 6, dtype=torch.long)
    ends = torch.tensor([0, 1, 4, 6], dtype=torch.int32)
    assert patched.lengths_of_documents(ids, cu_seq_lens_q=ends).tolist() == [[1, 3, 3, 3, 2, 2]]
