"""lm-eval's own command on a run's model/, and what the prompt of training does to a score.

In processes of their own: lm-eval's imports warn, and warnings are errors here.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.benchmark_files import write_rows
from support.commands import environment

from harness.config.paths import ASSETS
from harness.data import builtin
from harness.record import read_json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs the extra eval (lm-eval)"),
]
# Questions of the task builtin_unseen; Alpaca has another prompt for those with an input, so they are not compared.
ITEMS = builtin.generate("unseen", 100, seed=0, families=["odd_one_out", "longest_word"])
ASKED = [place for place, item in enumerate(ITEMS) if not item.input][:12]
TRAINED = [
    *("model=tiny_base", "dataset.size=1024", "train.max_steps=40", "noise=none", "tracking=disabled"),
    *("eval_set=alpaca_eval", "generate.max_new_tokens=16", "generate.repetition_penalty=1.1"),
]
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def command(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment(**OFFLINE), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on Alpaca's prompt; its instructions are the questions of the task builtin_unseen."""
    folder = tmp_path_factory.mktemp("lm_eval")
    rows = [{"instruction": ITEMS[place].instruction, "output": ITEMS[place].output} for place in ASKED]
    path = write_rows(folder / "questions.json", rows)
    command("-m", "harness", *TRAINED, f"eval_set.path={path}", "stages=[train,generate]", cwd=folder)
    (made,) = (folder / "runs").glob("*/model_outputs.json")
    return made.parent


def test_lm_evals_command_gives_the_runs_answers(run: Path, tmp_path: Path) -> None:
    """--apply_chat_template on model/: the text of model_outputs.json up to the task's own end, a line end."""
    arguments = ["--model", "hf", "--model_args", f"pretrained={run / 'model'},dtype=float32", "--device", "cpu"]
    arguments += ["--tasks", "builtin_unseen", "--include_path", str(ASSETS / "lm_eval"), "--apply_chat_template"]
    arguments += ["--batch_size", "1", "--limit", str(ASKED[-1] + 1), "--log_samples", "--output_path", str(tmp_path)]
    command("-m", "lm_eval", *arguments, cwd=tmp_path)
    (samples,) = tmp_path.rglob("samples_builtin_unseen_*.jsonl")
    answers = {
        row["doc"]["prompt"]: row["resps"][0][0].strip() for row in map(json.loads, samples.read_text().splitlines())
    }
    rows = read_json(run / "model_outputs.json")
    assert len(rows) == len(ASKED) == 12
    for row in rows:
        assert answers[row["instruction"]] == row["output"].split("\n")[0].strip()


def test_the_score_of_a_model_changes_with_the_prompt_it_was_trained_on(run: Path) -> None:
    figures: dict[bool, Any] = {}
    for asked in (True, False):
        settings = [f"probe.benchmarks.apply_chat_template={asked}".lower(), "probe.benchmarks.limit=60"]
        command(
            "-m", "harness", f"run_id={run}", "probe=local_tasks", *settings, "stages=[probe]", cwd=run.parent.parent
        )
        figures[asked] = read_json(run / "probes.json")["figures"]
    written = {asked: found["probe/benchmark/builtin_unseen/exact_match"]["mean"] for asked, found in figures.items()}
    chosen = {asked: found["probe/benchmark/builtin_choice/acc"]["mean"] for asked, found in figures.items()}
    assert written[True] > written[False]
    assert chosen[True] != chosen[False]
