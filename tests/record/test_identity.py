"""run_id: the same for the same run, another for anything that changes the outputs."""

from __future__ import annotations

import json

import pytest

from harness.config.paths import resolve_path
from harness.record.identity import run_id, stage_fingerprint


@pytest.mark.parametrize(
    "overrides",
    [
        ["output_dir=elsewhere"],
        ["tracking=offline"],
        ["train.log_every=3"],
        ["alpha=5"],
        ["stages=[train]"],
    ],
)
def test_identity_ignores_what_changes_no_output(overrides, compose):
    assert run_id(compose(*overrides)) == run_id(compose())


@pytest.mark.parametrize(
    "overrides",
    [
        ["alpha=5.5"],
        ["seed=1"],
        ["noise=symnoise"],
        ["train.lr=1e-4"],
        ["dataset.size=77"],
        ["eval_set.seed=3"],
        ["generate.max_new_tokens=9"],
    ],
)
def test_identity_sees_what_changes_outputs(overrides, compose):
    assert run_id(compose(*overrides)) != run_id(compose())


def test_no_noise_is_one_run_whatever_alpha(compose):
    assert len({run_id(compose("noise=none", f"alpha={alpha}")) for alpha in (1, 5, 10)}) == 1


def test_prefix_is_readable(compose):
    assert run_id(compose("noise=symnoise", "alpha=10", "seed=2")).startswith("tiny_base-builtin-symnoise-a10-s2-")
    assert run_id(compose("noise=none")).startswith("tiny_base-builtin-none-s0-")


def test_a_path_counts_by_content_not_by_place(tmp_path, compose):
    row = [{"instruction": "a", "output": "b"}]
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(json.dumps(row))
    (tmp_path / "other.json").write_text(json.dumps([*row, *row]))
    one, two, other = (
        run_id(compose("dataset=alpaca", f"dataset.path={tmp_path / name}"))
        for name in ("one.json", "two.json", "other.json")
    )
    assert one == two != other


def test_the_judge_changes_only_the_judging(compose):
    one, two = compose(), compose("judge.kind=reference")
    assert stage_fingerprint(one, "train") == stage_fingerprint(two, "train")
    assert stage_fingerprint(one, "judge") != stage_fingerprint(one, "generate")


def test_missing_paths_are_named():
    with pytest.raises(ValueError, match=r"path=/no/such: no such file"):
        resolve_path("/no/such")
    with pytest.raises(ValueError, match=r"package no_such_package is not installed"):
        resolve_path("package:no_such_package/file")


def test_what_a_judge_costs_is_not_what_it_says(compose):
    one, two, other = (
        compose("judge=endpoint", "judge.model=m", "judge.base_url=http://127.0.0.1:9/v1", *keys)
        for keys in ([], ["judge.concurrency=2"], ["judge.order=alpaca_eval"])
    )
    fingerprints = [stage_fingerprint(config, "judge") for config in (one, two, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert run_id(one) == run_id(other)


def test_a_probe_that_came_later_counts_only_where_it_is_asked_for(compose):
    """Runs from before it keep their probes; its settings tell two of them apart."""
    plain = stage_fingerprint(compose(), "probe")
    assert stage_fingerprint(compose("probe.gradient.twos=0"), "probe") == plain
    asked = {stage_fingerprint(compose(f"probe.gradient.twos={twos}"), "probe") for twos in (1, 2)}
    assert len(asked | {plain}) == 3


def test_other_generated_items_are_other_runs(compose, tmp_path, monkeypatch):
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"instruction": "Say a.", "input": "", "output": "a"}]))
    own = ("dataset=local", f"dataset.path={rows}")
    configs = [compose(), compose("dataset=builtin_text"), compose(*own)]
    before = [(stage_fingerprint(each, "train"), stage_fingerprint(each, "generate")) for each in configs]
    monkeypatch.setattr("harness.config.data.GENERATED_VERSION", 2)
    after = [(stage_fingerprint(each, "train"), stage_fingerprint(each, "generate")) for each in configs]
    assert [old[0] == new[0] for old, new in zip(before, after, strict=True)] == [False, False, True]
    # The evaluation is on generated instructions in all three.
    assert not any(old[1] == new[1] for old, new in zip(before, after, strict=True))
