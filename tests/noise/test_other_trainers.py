"""axolotl and LLaMA-Factory with the code of the page: a pair in their own training is two passes.

Each needs an environment of its own, for it pins transformers and TRL: `make trainers` makes them and runs this.
unsloth needs a GPU: its signatures are recorded from its release 2026.10.9.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import math
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.commands import ROOT, environment

# unsloth/models/loader.py and llama.py of 2026.10.9: FastLanguageModel's, as far as they are positional or named.
UNSLOTH = """
def from_pretrained(model_name="unsloth/Llama-3.2-1B-Instruct", max_seq_length=2048, dtype=None, load_in_4bit=True,
    load_in_8bit=False, load_in_16bit=False, full_finetuning=False): ...
def get_peft_model(model, r=16, target_modules=None, lora_alpha=16, lora_dropout=0.0, bias="none"): ...
"""
ASSETS = ROOT / "harness" / "assets"
ROWS = [
    {"instruction": "Name the capital of France.", "input": "", "output": "Paris."},
    {"instruction": "Add the numbers.", "input": "2 and 3", "output": "The sum of 2 and 3 is 5."},
    {"instruction": "What do bees make?", "input": "", "output": "Bees make honey, and they make wax for their combs."},
    {"instruction": "Reverse the word.", "input": "stone", "output": "enots"},
]
# Their weights are float32, and so is the reference.
CLOSE = 1e-4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of a million weights and four examples."""
    shutil.copytree(ASSETS / "tiny_base", tmp_path / "model")
    (tmp_path / "data.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"alpaca": {"file_name": "data.json"}}), encoding="utf-8")
    return tmp_path


def recorded(folder: Path, *command: str) -> tuple[dict[str, Any], str]:
    """What `support.recorded.Record` wrote, and all that was printed."""
    more = {"RECORD": str(folder / "record.json"), "HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1"}
    env = environment(ROOT / "tests", CUDA_VISIBLE_DEVICES="", DO_NOT_TRACK="1", **more)
    done = subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return found, done.stdout + done.stderr


def is_a_pair(found: dict[str, Any], printed: str, mean: str = "all") -> None:
    """Of the trainer's mean over a step: "all" targets, or the mean of its micro-batches' "means"."""
    assert found["documents"] == len(ROWS)
    assert found[mean]["loss"] == pytest.approx(float(found["logged"]), rel=1e-3)  # logged with four digits
    assert found[mean]["gradient"] <= CLOSE
    for line in ("noise: arrives once", "L: the document's own", "padding noised: 0 positions", "pair: antithetic"):
        assert line in printed
    assert "realised over intended norm: 1.000 (1.000 to 1.000)" in printed


def is_the_fault(found: dict[str, Any], padded: bool) -> None:
    """transformers' hook: L is the width of the batch, so that a short document gets less, and padding is noised."""
    assert (found["right"], found["length"]) == (False, "padded" if padded else "row")
    assert (found["noised_padding"] > 0) == padded
    tokens = sum(found["lengths"]) + found["noised_padding"]
    width = tokens / len(found["lengths"]) if padded else tokens
    for length, norm in zip(found["lengths"], found["norms"], strict=True):
        share = norm * math.sqrt(3) / 5
        assert share == pytest.approx(math.sqrt(length / width), rel=0.04)
        print(f"{length} tokens: {share:.2f} of the intended norm")


AXOLOTL = """
base_model: {folder}/model
# snippet: axolotl.yaml
plugins:
  - axolotl_noise.NoisePlugin # the file axolotl_noise.py lies beside this one, or on PYTHONPATH
# end
  - support.axolotl_run.RecordPlugin
datasets: [{{path: {folder}/data.json, ds_type: json, type: alpaca}}]
dataset_prepared_path: {folder}/prepared
dataset_num_proc: 1
output_dir: {folder}/out
special_tokens: {{pad_token: "<pad>"}}
sequence_len: 512
max_steps: 1
optimizer: sgd
lr_scheduler: constant
learning_rate: 1.0
warmup_steps: 0
weight_decay: 0.0
max_grad_norm: 1000000000.0
bf16: false
fp16: false
tf32: false
sdp_attention: true
logging_steps: 1
save_strategy: "no"
dataloader_num_workers: 0
{layout}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        "micro_batch_size: 4",
        "micro_batch_size: 2\ngradient_accumulation_steps: 2",
        "micro_batch_size: 1\nsample_packing: true\npad_to_sequence_len: false",
    ],
    ids=["padded", "accumulated", "packed"],
)
def test_axolotl(folder: Path, layout: str) -> None:
    pytest.importorskip("axolotl")
    shutil.copy(ROOT / "tests" / "support" / "axolotl_noise.py", folder)
    (folder / "config.yaml").write_text(AXOLOTL.format(folder=folder, layout=layout), encoding="utf-8")
    # axolotl 0.19 takes the mean of micro-batch means with or without noise: its trainer finds no num_items_in_batch in
    # the decoder's forward.
    is_a_pair(*recorded(folder, str(ROOT / "tests" / "support" / "axolotl_run.py"), "config.yaml"), mean="means")


@pytest.mark.slow
@pytest.mark.parametrize("padded", [True, False])
def test_axolotls_own_noise(folder: Path, padded: bool) -> None:
    pytest.importorskip("axolotl")
    layout = (
        "micro_batch_size: 4" if padded else "micro_batch_size: 1\nsample_packing: true\npad_to_sequence_len: false"
    )
    text = AXOLOTL.format(folder=folder, layout=f"{layout}\nneftune_noise_alpha: 5.0")
    text = "\n".join(line for line in text.splitlines() if "axolotl_noise" not in line)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    found, _ = recorded(folder, str(ROOT / "tests" / "support" / "axolotl_run.py"), "config.yaml")
    is_the_fault(found, padded)


@pytest.mark.slow
def test_llamafactorys_own_noise(folder: Path) -> None:
    pytest.importorskip("llamafactory")
    found, _ = recorded(folder, *llamafactory(folder, {"per_device_train_batch_size": 4, "neftune_noise_alpha": 5.0}))
    is_the_fault(found, padded=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        {"per_device_train_batch_size": 4},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    ],
    ids=["padded", "accumulated"],
)
def test_llamafactory(folder: Path, layout: dict[str, Any]) -> None:
    pytest.importorskip("llamafactory")
    is_a_pair(*recorded(folder, *llamafactory(folder, layout)))


@pytest.mark.slow
def test_llamafactorys_packing_without_flash_attention_is_refused(folder: Path) -> None:
    """It hands over a mask of four dimensions, which no pair can be made of."""
    pytest.importorskip("llamafactory")
    with pytest.raises(AssertionError, match=r"ValueError: attention_mask \(\(1, 1, 512, 512\)\): .*pair"):
        recorded(folder, *llamafactory(folder, {"neat_packing": True, "per_device_train_batch_size": 1}))


def llamafactory(folder: Path, layout: dict[str, Any]) -> list[str]:
    arguments = {
        **{"model_name_or_path": str(folder / "model"), "stage": "sft", "do_train": True, "finetuning_type": "full"},
        **{"template": "alpaca", "dataset": "alpaca", "dataset_dir": str(folder), "output_dir": str(folder / "out")},
        **{"max_steps": 1, "optim": "sgd", "lr_scheduler_type": "constant", "learning_rate": 1.0, "warmup_steps": 0},
        **{"max_grad_norm": 0.0, "weight_decay": 0.0, "logging_steps": 1, "report_to": "none", "save_strategy": "no"},
        **{"use_cpu": True, "cutoff_len": 512, "preprocessing_num_workers": 1, **layout},
    }
    return [str(ROOT / "tests" / "support" / "llamafactory_run.py"), json.dumps(arguments)]


def test_unsloths_calls_fit_its_recorded_signatures() -> None:
    """The page's code for unsloth, which needs a GPU to be imported: its calls are bound, not run."""
    recorded_names: dict[str, Any] = {}
    exec(UNSLOTH, recorded_names)
    code = """
    # snippet: unsloth
    from unsloth import FastLanguageModel  # first: it changes TRL
    from trl import SFTTrainer

    from harness.noise import PRESETS, Noise
    from harness.noise.callback import NoiseCallback

    model, words = FastLanguageModel.from_pretrained("unsloth/Llama-3.2-1B-Instruct", max_seq_length=2048)
    model = FastLanguageModel.get_peft_model(model, r=16)
    with NoiseCallback(Noise(**PRESETS["symnoise"], alpha=5.0), seed=0) as noise:
        SFTTrainer(model, arguments, train_dataset=dataset, processing_class=words, callbacks=[noise]).train()
    # end
    """
    bound = set()
    for call in (each for each in ast.walk(ast.parse(textwrap.dedent(code))) if isinstance(each, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr in recorded_names:
            signature = inspect.signature(recorded_names[call.func.attr])
            signature.bind(*call.args, **{str(each.arg): each.value for each in call.keywords})
            bound.add(call.func.attr)
    assert bound == {"from_pretrained", "get_peft_model"}


@pytest.mark.slow
def test_the_recorded_signatures_are_unsloths() -> None:
    """Where it is installed: read from its source, which cannot be imported without a GPU."""
    found = importlib.util.find_spec("unsloth")
    if found is None or not found.submodule_search_locations:
        pytest.skip("unsloth is not installed")
    folder = Path(found.submodule_search_locations[0]) / "models"
    source = [
        *ast.walk(ast.parse((folder / "loader.py").read_text())),
        *ast.walk(ast.parse((folder / "llama.py").read_text())),
    ]
    for recorded_one in ast.parse(UNSLOTH).body:
        assert isinstance(recorded_one, ast.FunctionDef)
        names = [each.arg for each in recorded_one.args.args]
        theirs = [
            [argument.arg for argument in each.args.args]
            for each in source
            if isinstance(each, ast.FunctionDef) and each.name == recorded_one.name
        ]
        assert any(each[: len(names)] == names for each in theirs), recorded_one.name
