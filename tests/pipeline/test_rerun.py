"""run_id=RUN: a run continues from its folder alone, and stays the run it was."""

from __future__ import annotations

import json
import shutil

import pytest
from support.commands import SMALL
from support.runs import folder_of, pending_of

from harness.models.load import load_model
from harness.models.save import save_model
from harness.models.tokenizer import load_tokenizer
from harness.pipeline.plan import make_plan
from harness.pipeline.rerun import stored_config
from harness.pipeline.runner import execute


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"instruction": f"Say {n}.", "input": "", "output": str(n)} for n in range(40)]))
    return path


@pytest.mark.parametrize("method", ["full", "lora"])
def test_generation_needs_the_run_folder_alone(method, rows, compose, tmp_path):
    # A base model in a folder; full training needs neither it nor the data again.
    base = tmp_path / "base"
    tiny = compose(*SMALL).model
    save_model(load_model(tiny, 0), load_tokenizer(tiny), base)
    settings = [
        *SMALL,
        "model=local",
        f"model.path={base}",
        "dataset=alpaca",
        f"dataset.path={rows}",
        "dataset.size=20",
    ]
    settings = [each for each in settings if not each.startswith("model.architecture") and each != "model=tiny"]
    config = compose(*settings, f"train.method={method}", "stages=[train]")
    execute(config)
    name = folder_of(config).path.name
    rows.unlink()
    if method == "full":
        shutil.rmtree(base)
    again = compose(f"run_id={name}", "stages=[generate,judge]")
    assert again.dataset.path == str(rows)
    make_plan([again])
    assert pending_of(again) == ["generate", "judge", "record"]
    summary = execute(again)
    assert summary["run_id"] == name
    assert (folder_of(again) / "model_outputs.json").exists()
    assert {"train/loss", "judge/win_rate", "generate/characters"} <= set(summary["final"])
    if method == "lora":
        shutil.rmtree(base)
        with pytest.raises(ValueError, match=r"path=.*base: no such file or folder"):
            make_plan([compose(f"run_id={folder_of(again).path}", "stages=[generate]")])


def test_another_judge_is_the_same_run_and_other_decoding_is_not(compose, finished):
    config = compose(*SMALL, "train.max_steps=1")
    finished(config)
    name = folder_of(config).path.name
    judged = compose(f"run_id={name}", "stages=[judge]", "judge=reference", "judge.baseline=none_same_seed")
    assert judged.judge.baseline == "none_same_seed"
    assert judged.train.max_steps == 1
    with pytest.raises(
        ValueError, match=rf"run_id={name}: generate\.max_new_tokens changed .* another run \(tiny-builtin"
    ):
        compose(f"run_id={name}", "generate.max_new_tokens=5")


def test_an_unknown_run_is_named_with_those_that_are_there(compose, finished):
    config = compose(*SMALL, "train.max_steps=1")
    finished(config)
    with pytest.raises(ValueError, match=rf"run_id=gone: no such run in .*there are {config.model.name}-builtin"):
        compose("run_id=gone")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 20_000, "too large or too deeply nested"),
        ("a: [1", "not valid YAML"),
        ("null", "expected a mapping of settings, found NoneType"),
        ("harness: 3", "holds no run's settings: key harness"),
        ("judge: [1]\nharness: {}", "holds no run's settings: key judge"),
        ("noise: {own: x}\nharness: {}", r"holds no run's settings: key noise\.own"),
    ],
    ids=["deep", "torn", "null", "no section", "a list for a section", "a word for a section"],
)
def test_a_folder_whose_settings_cannot_be_read_is_one_line(text, message, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        stored_config(
            {
                **{"run_id": str(tmp_path / "run"), "output_dir": str(tmp_path), "harness": {}, "judge": {}},
                "noise": {"own": {}},
            },
            [],
        )
