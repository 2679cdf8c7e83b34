"""The probes on a real (tiny) model, and the stage in a run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
import torch
from support.commands import SMALL, environment
from support.forked import run_module
from support.runs import folder_of, pending_of
from support.tiny_models import random_documents, tiny_model

from harness.config import BenchmarksConfig
from harness.models.load import load_model
from harness.models.tokenizer import load_tokenizer
from harness.noise import EmbeddingNoise, Noise
from harness.pipeline.plan import make_plan
from harness.pipeline.runner import execute
from harness.probe.benchmarks import results_figures
from harness.probe.checks import fetch_benchmarks
from harness.probe.examples import trained_on
from harness.probe.memorisation import corpus_bleu, memorisation_rows
from harness.probe.predictions import prediction_rows
from harness.probe.smoothness.directions import at_radius, direction, norms
from harness.probe.smoothness.hessian import Expansion
from harness.probe.smoothness.smoothness import passes, smoothness
from harness.probe.smoothness.surface import probing, surfaces, twice_differentiable
from harness.train.loss import ResponseLoss

PROBE = [
    "probe.examples=4",
    "probe.radii=[1.0,5.0]",
    "probe.hessian_examples=2",
    "probe.power_iterations=2",
    "probe.overfitting_examples=6",
    "probe.memorisation_examples=3",
    "probe.memorisation_tokens=4",
]


def surface_of(model, documents):
    (surface,) = surfaces(ResponseLoss(model), documents, max_tokens=10_000)
    return surface


@pytest.mark.parametrize("name", ["llama", "gemma", "gpt_neox", "opt"])
def test_the_loss_is_that_of_the_model_on_shifted_embeddings(name):
    model = tiny_model(name, dtype=torch.float64).eval()
    surface = surface_of(model, random_documents())
    torch.manual_seed(0)
    added = torch.randn_like(surface.zeros())
    batch = surface.batch
    embeddings = model.get_input_embeddings()(batch.input_ids) + added
    logits = model(inputs_embeds=embeddings, attention_mask=batch.attention_mask).logits.detach()
    # Documents whose every label was cut off have no loss: the last of two tokens is all prompt.
    expected = [
        torch.nn.functional.cross_entropy(row, targets, ignore_index=-100)
        for row, targets in zip(logits, batch.targets, strict=True)
    ]
    torch.testing.assert_close(surface.losses(added).detach(), torch.stack(expected), equal_nan=True)
    assert not torch.equal(surface.losses(added), surface.losses())


# Only gpt_neox computes in float64 throughout. The others' norms round to float32 inside, 1e-7 of a loss, which a
# second difference divides by radius^2: their radius balances that against the next even order.
ROUNDED = {"rtol": 0.01, "atol": 2e-3}


@pytest.mark.parametrize(
    ("name", "radius", "close"),
    [("gpt_neox", 1e-3, {"rtol": 1e-4, "atol": 1e-7}), ("llama", 0.03, ROUNDED), ("gemma2", 0.03, ROUNDED)],
)
def test_second_differences_tend_to_the_products_with_the_hessian(name, radius, close):
    model = tiny_model(name, dtype=torch.float64).eval()
    surface = surface_of(model, random_documents((9, 5, 7)))
    lengths = [9, 7, 5]
    e = at_radius(direction("rademacher", 0, [0, 1, 2], lengths, surface.zeros(), 0), radius, lengths)
    with torch.no_grad():
        second = surface.losses(e) + surface.losses(-e) - 2 * surface.losses()
        first = surface.losses(e) - surface.losses(-e)
    with twice_differentiable(model):
        expansion = Expansion.of(surface.losses, surface.zeros())
        exact = (e * expansion.times(e)).flatten(1).sum(1)
    torch.testing.assert_close(second / norms(e) ** 2, exact / norms(e) ** 2, **close)
    torch.testing.assert_close(
        first / radius, 2 * (expansion.gradient * e).flatten(1).sum(1).detach() / radius, **close
    )


def test_a_document_measures_the_same_in_any_batch(compose):
    model, documents = tiny_model("llama").eval(), random_documents((9, 5, 7))
    settings = compose(*PROBE, "probe.examples=3").probe
    together = smoothness(model, documents, settings)
    alone = smoothness(model, documents, settings.model_copy(update={"max_tokens": 1}))
    assert passes(documents, settings) == 1 + 2  # the Hessian's documents one by one
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys()
        assert one["slope/rademacher/5"] == pytest.approx(other["slope/rademacher/5"], rel=1e-3, abs=1e-6)
    assert [row["document"] for row in together] == [0, 1, 2]
    assert ["trace" in row for row in together] == [True, True, False]


def test_without_documents_for_the_hessian_there_are_differences_alone(compose):
    settings = compose(*PROBE, "probe.hessian_examples=0").probe
    rows = smoothness(tiny_model("llama"), random_documents((9, 5)), settings)
    assert ["trace" in row for row in rows] == [False, False]
    assert passes(random_documents((9, 5)), settings) == 1


def test_probing_sees_no_noise_and_leaves_the_model_as_it_was(compose):
    model, documents = tiny_model("llama"), random_documents((9, 5, 7))
    settings = compose(*PROBE, "probe.examples=3").probe
    clean = smoothness(model, documents, settings)
    state = torch.random.get_rng_state()
    with EmbeddingNoise(model, Noise(alpha=50.0), seed=0):
        assert smoothness(model, documents, settings) == clean
    assert model.training
    assert torch.random.get_rng_state().equal(state)
    assert model.config._attn_implementation == "sdpa"
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_half_precision_is_probed_in_float32_on_a_copy():
    model = tiny_model("llama", dtype=torch.bfloat16)
    with probing(model) as objective:
        assert objective.model.dtype == torch.float32
        assert not objective.model.training
    assert model.dtype == torch.bfloat16
    assert model.training
    rows = prediction_rows(model, random_documents((9, 5)), 100)
    assert rows == prediction_rows(tiny_model("llama", dtype=torch.bfloat16).float(), random_documents((9, 5)), 100)


def test_the_stage_writes_figures_with_intervals_and_runs_again_alone(compose):
    config = compose(*SMALL, *PROBE, "noise=symnoise")
    final = execute(config)["final"]
    folder = folder_of(config)
    probes = json.loads((folder / "probes.json").read_text())
    assert [row["document"] for row in probes["smoothness"]] == [0, 1, 2, 3]
    assert [row["split"] for row in probes["predictions"]] == ["train"] * 6 + ["heldout"] * 6 + ["unseen"] * 32
    for name in ("curvature/rademacher/5", "flips/gaussian/1", "trace", "top_eigenvalue", "heldout/loss", "train/ece"):
        figure = probes["figures"][f"probe/{name}"]
        assert final[f"probe/{name}"] == figure["mean"]
        assert figure["low"] <= figure["mean"] <= figure["high"]
        assert final[f"probe/{name}/low"] == figure["low"]
    assert final["probe/weight_distance"] > 0
    assert [row["split"] for row in probes["memorisation"]] == ["train"] * 3 + ["heldout"] * 3
    assert {"probe/train/rouge_l/low", "probe/heldout/bleu"} <= set(final)
    assert final["probe/gap"] == pytest.approx(
        final["probe/heldout/loss/per_token"] - final["probe/train/loss/per_token"]
    )

    again = compose(*SMALL, *PROBE, "noise=symnoise", "stages=[probe]", "probe.radii=[2.0]")
    assert make_plan([again]).to_run[0].pending == ["probe", "record"]
    assert "probe/slope/rademacher/2" in execute(again)["final"]
    assert pending_of(again) == []


def test_examples_and_directions_do_not_depend_on_the_runs_seed(compose):
    rows = []
    for seed in (0, 1):  # at a learning rate of nothing both end as the same model
        small = [each for each in SMALL if not each.startswith("model")]
        config = compose(*small, *PROBE, "train.lr=1e-30", f"seed={seed}", "stages=[train,probe]")
        execute(config)
        rows.append(json.loads((folder_of(config) / "probes.json").read_text())["smoothness"])
    assert rows[0] == rows[1]


def test_training_examples_are_those_that_the_run_saw(compose):
    assert trained_on(compose(*SMALL), 48) == set(range(48))
    few = trained_on(compose(*SMALL, "train.max_steps=2"), 48)
    assert len(few) == 16
    assert few != trained_on(compose(*SMALL, "train.max_steps=2", "seed=1"), 48)


def test_without_held_out_examples_the_log_says_what_is_missing(compose):
    config = compose(*SMALL, *PROBE, "dataset.heldout=0")
    final = execute(config)["final"]
    assert "no held-out examples" in (folder_of(config) / "log.txt").read_text()
    assert "probe/train/loss" in final
    assert "probe/gap" not in final
    assert "probe/trace" not in final


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("probe.radii=[]", "probe.radii=.*at least 1 item"),
        ("probe.radii=[1.0,1.0]", "probe: radii=.*contains a value twice"),
        ("probe.radii=[0.0]", "probe.radii.0=0.0: input should be greater than 0"),
        ("probe.hessian_examples=17", "probe: hessian_examples=17: more than examples=8"),
        (
            "probe.distributions=[uniform]",
            "probe.distributions.0='uniform': input should be 'rademacher' or 'gaussian'",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(override, message, compose):
    with pytest.raises(ValueError, match=message):
        compose(override)


def test_probes_during_training_join_the_log_and_change_nothing(compose, tmp_path):
    quiet = compose(*SMALL, *PROBE, "train.log_every=4", "stages=[train]", f"output_dir={tmp_path / 'quiet'}")
    probed = compose(*SMALL, *PROBE, "train.log_every=4", "stages=[train]", "probe.every=2")
    execute(quiet)
    execute(probed)
    rows = {row["step"]: row for row in folder_of(probed).metrics()}
    assert {step for step, row in rows.items() if "probe/curvature/rademacher/5" in row} == {2, 4}
    assert [step for step, row in rows.items() if "train/tokens" in row] == [2, 4, 6]
    losses = {row["step"]: row["train/loss"] for row in folder_of(quiet).metrics()}
    assert {step: row["train/loss"] for step, row in rows.items()} == losses


def test_probes_during_training_need_held_out_examples(compose):
    with pytest.raises(ValueError, match=r"probe.every: needs held-out examples"):
        compose(*SMALL, *PROBE, "probe.every=2", "dataset.heldout=0")


def test_answers_are_compared_with_those_trained_on():
    """A model that always writes its training answer: ROUGE-L and BLEU of 100 where the answers are the same text."""
    rows = [{"output": "the cat sat on the mat", "answer": "the cat sat on the mat"}] * 2
    assert corpus_bleu(rows) == pytest.approx(100)
    assert corpus_bleu([{"output": "a dog", "answer": "the cat sat on the mat"}]) < 5


def test_prompts_are_answered_without_their_labels(compose):
    tokenizer = load_tokenizer(compose("model=tiny").model)
    model = load_model(compose("model=tiny").model, seed=0)
    documents = random_documents((9, 7), prompt=4)
    rows = memorisation_rows(model, tokenizer, documents, max_new_tokens=3)
    assert [row["document"] for row in rows] == [0, 1]
    assert rows[0]["answer"] == tokenizer.decode(documents[0].input_ids[4:7], skip_special_tokens=True).strip()
    assert all(0 <= row["rouge_l"] <= 100 for row in rows)


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs the extra eval (lm-eval)")
def test_local_tasks_of_the_lm_evaluation_harness_run_without_a_network(tmp_path):
    """In a process of its own: lm-eval's imports warn, and warnings are errors here."""
    overrides = [*SMALL, *PROBE, "probe=local_tasks", "probe.benchmarks.limit=4", "stages=[train,probe]"]
    given = environment(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    line = [*overrides, "tracking=disabled", f"output_dir={tmp_path}"]
    done = run_module("harness", *line, cwd=tmp_path, env=given)
    assert done.returncode == 0, done.stderr
    (probes,) = tmp_path.glob("*/probes.json")
    found = json.loads(probes.read_text())["figures"]
    choice, written = found["probe/benchmark/builtin_choice/acc"], found["probe/benchmark/builtin_unseen/exact_match"]
    assert choice["n"] == written["n"] == 4
    assert 0 <= choice["mean"] <= 1
    assert choice["low"] <= choice["mean"] <= choice["high"]


def test_results_of_the_harness_become_figures():
    results = {
        "results": {
            "arc_challenge": {"alias": "arc", "acc_norm,none": 0.5, "acc_norm_stderr,none": 0.1},
            "gsm8k": {"exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": "N/A"},
        },
        "n-samples": {"arc_challenge": {"original": 100, "effective": 25}},
    }
    found = results_figures(results)
    assert found["probe/benchmark/arc_challenge/acc_norm"] == {
        "mean": 0.5, "low": pytest.approx(0.304, abs=1e-4), "high": pytest.approx(0.696, abs=1e-4), "n": 25,
    }  # fmt: skip
    assert found["lm_eval/arc"]["mean"] == 50
    assert found["probe/benchmark/gsm8k/exact_match/strict-match"] == {"mean": 0.25}
    assert len(found) == 3


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs the extra eval (lm-eval)")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param(
            "probe.benchmarks.tasks=[no_such_task]",
            "probe.benchmarks.tasks: lm-eval knows no no_such_task",
            marks=pytest.mark.slow,  # reads the names of all tasks
        ),
        ("probe.benchmarks.include_path=gone", "path=gone: no such file or folder"),
    ],
)
def test_unknown_tasks_are_refused_before_anything_starts(override, message, tmp_path):
    command = [sys.executable, "-m", "harness", "probe=local_tasks", override, "harness.dry_run=true"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # reads the names of all tasks
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs the extra eval (lm-eval)")
def test_a_task_whose_data_cannot_be_had_stops_the_command_before_training(tmp_path):
    command = [sys.executable, "-m", "harness", *SMALL, "probe=openllm", "offline=true", "tracking=disabled"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: probe.benchmarks.tasks: papers_openllm cannot be read: ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow  # reads the names of all tasks
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs the extra eval (lm-eval)")
def test_a_task_that_runs_code_needs_leave(tmp_path):
    code = (
        "from datasets import Dataset\ndef data(**_):\n    return {'test': Dataset.from_list([{'q': 'a', 'a': 'b'}])}\n"
    )
    (tmp_path / "runner.py").write_text(code)
    (tmp_path / "runner.yaml").write_text(
        "task: runner\ncustom_dataset: !function runner.data\ntest_split: test\noutput_type: generate_until\n"
        "doc_to_text: q\ndoc_to_target: a\nunsafe_code: true\nmetric_list: [{metric: exact_match}]\n"
    )
    settings = BenchmarksConfig(tasks=["runner"], include_path=str(tmp_path))
    with pytest.raises(ValueError, match=r"probe\.benchmarks\.run_code=false, but runner executes what the model"):
        fetch_benchmarks(settings)
    fetch_benchmarks(settings.model_copy(update={"run_code": True}))
