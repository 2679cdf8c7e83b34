"""What would fail after training is refused before it: lengths, prompts, baselines, judges."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.commands import SMALL, harness
from support.judge_models import local_lm, tiny
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from harness.config import Config
from harness.data import load_eval_items
from harness.generate.checks import check_prompts
from harness.pipeline.plan import Plan, make_plan
from harness.pipeline.stages import prepare as prepare_jobs
from harness.record.identity import run_id

Compose = Callable[..., Config]
ROWS = [
    {"instruction": f"Question {n}: {'why ' * 10 * n}", "output": "Because.", "generator": "gold"} for n in range(4)
]


def eval_file(folder: Path, rows: Any) -> list[str]:
    path = folder / "items.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return ["eval_set=alpaca_eval", f"eval_set.path={path}", "eval_set.heldout=0", "eval_set.unseen=0"]


def prepare(plan: Plan) -> list[str]:
    return prepare_jobs(plan.to_run)


def refused(config: Config, message: str) -> str:
    with pytest.raises(ValueError, match=message) as caught:
        prepare(make_plan([config]))
    return str(caught.value)


def test_a_limit_too_small_for_a_prompt_names_the_prompt_and_what_it_needs(compose: Compose, tmp_path: Path) -> None:
    options = [*SMALL, *eval_file(tmp_path, ROWS)]
    text = refused(
        compose(*options, "generate.max_length=20"), r"^generate\.max_length=20: the prompt of eval_set's inst"
    )
    assert "instruction 1 ('Question 0: ') has" in text
    assert "4 of 4 prompts do not fit" in text
    needed = int(text.rsplit(" ", 1)[1])
    refused(compose(*options, f"generate.max_length={needed - 1}"), r"instruction 4 .* 1 of 4 prompts do not fit")
    assert prepare(make_plan([compose(*options, f"generate.max_length={needed}")]))[-1].startswith(
        f"generate: 1 of 4 answers have room for less than generate.max_new_tokens: generate.max_length={needed}"
    )


def test_the_models_positions_are_a_limit_too(compose: Compose, tmp_path: Path) -> None:
    short = [*SMALL, "model.architecture.max_positions=200", "dataset.max_length=200"]
    rows = [{"instruction": "why " * 300, "output": "Because."}]
    text = refused(compose(*short, *eval_file(tmp_path, rows)), "model=tiny has positions for 200 tokens: ")
    assert text.endswith("leave those instructions out, or take another model")
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"instruction": f"{n}", "output": "so " * 300} for n in range(60)]), encoding="utf-8")
    longer = [*short, "dataset=local", f"dataset.path={path}", "dataset.max_length=201"]
    refused(compose(*longer), r"^dataset\.max_length=201: the longest example has 201 tokens, .* for 200; set .*=200$")


def test_a_limit_of_prompt_and_answer_alone_is_no_news() -> None:
    from harness.config import GenerateConfig

    items, prompts = load_eval_items_of(2), [[1] * 10, [1] * 20]
    paper = GenerateConfig(name="paper", max_new_tokens=2048, max_length=2048)
    assert check_prompts(items, prompts, paper, "m", None) is None
    assert "2 of 2 answers" in str(check_prompts(items, prompts, paper, "m", 1024))
    with pytest.raises(ValueError, match=r"instruction 2 is empty and dataset\.prompt=none adds nothing"):
        check_prompts(items, [[1], []], paper, "m", None)


def load_eval_items_of(count: int) -> Any:
    from harness.config import EvalSetConfig

    return load_eval_items(EvalSetConfig(name="builtin", heldout=count))


def test_a_baseline_that_is_not_there_or_answers_less(compose: Compose, tmp_path: Path) -> None:
    refused(compose(*SMALL, "judge.baseline=gone.json"), r"judge\.baseline=gone\.json: expected reference, none_same")
    options = [*SMALL, *eval_file(tmp_path, ROWS)]
    (tmp_path / "other.json").write_text(json.dumps([{**row, "output": "x"} for row in ROWS[:3]]), encoding="utf-8")
    config = compose(*options, f"judge.baseline={tmp_path / 'other.json'}")
    refused(config, "does not answer every instruction: 3 joined")


def test_a_baseline_may_be_a_run_that_the_sweep_does_before(compose: Compose) -> None:
    base = compose(*SMALL, "noise=none", "judge.baseline=none_same_seed")
    ours = compose(*SMALL, "noise=neftune", "judge.baseline=none_same_seed")
    by_name = compose(*SMALL, "noise=symnoise", f"judge.baseline={run_id(base)}")
    prepare(make_plan([base, ours, by_name]))
    with pytest.raises(ValueError, match="none_same_seed: no run in"):
        prepare(make_plan([ours, base]))
    with pytest.raises(ValueError, match="none_same_seed: no run in"):
        prepare(make_plan([base, compose(*SMALL, "seed=1", "judge.baseline=none_same_seed")]))


def test_difficulties_of_other_instructions(compose: Compose, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    for name in ("d.csv", "g.csv"):
        (tmp_path / name).write_text("instruction,instruction_difficulty\nother,0.5\n", encoding="utf-8")
    tables = [f"judge.difficulty={tmp_path / 'd.csv'}", f"judge.gamed={tmp_path / 'g.csv'}"]
    refused(compose(*SMALL, *eval_file(tmp_path, ROWS), *tables), "no difficulty for 4 of 4 instructions")


def test_a_reference_of_two_generators_with_length_control(compose: Compose, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    for name in ("d.csv", "g.csv"):
        (tmp_path / name).write_text("instruction,instruction_difficulty\nother,0.5\n", encoding="utf-8")
    tables = [f"judge.difficulty={tmp_path / 'd.csv'}", f"judge.gamed={tmp_path / 'g.csv'}"]
    mixed = [{**row, "generator": f"model {number // 3}"} for number, row in enumerate(ROWS)]
    message = r"items\.json: generator is 'model 0' in row 0 and 'model 1' in row 3, .*answers of one generator"
    refused(compose(*SMALL, *eval_file(tmp_path, mixed), *tables), message)
    prepare(make_plan([compose(*SMALL, *eval_file(tmp_path, mixed))]))  # without length control anybody may answer


def test_a_published_reference_of_two_generators_with_length_control(compose: Compose, shared_data: Path) -> None:
    pytest.importorskip("sklearn")
    mixed, tables = shared_data.parent / "trials" / "mixed_generators.json", shared_data / "alpaca_eval"
    if not mixed.is_file():
        pytest.skip("the small inputs (../shared/trials) are not on this machine")
    given = [
        *("eval_set=alpaca_eval", f"eval_set.path={mixed}", "eval_set.heldout=0", "eval_set.unseen=0"),
        f"judge.difficulty={tables / 'instruction_difficulty_reconstructed.csv'}",
        f"judge.gamed={tables / 'df_gamed_reconstructed.csv'}",
    ]
    refused(compose(*SMALL, *given), r"mixed_generators\.json: generator is .* in row 0 and .*answers of one generator")


def test_a_local_judge_is_looked_at_before_training(compose: Compose, tmp_path: Path) -> None:
    labels = local_lm(tiny(tmp_path / "lm", LlamaForCausalLM), labels=["A", "Bqzx"])
    config = compose(*SMALL).model_copy(update={"judge": labels})
    refused(config, r"judge\.labels: 'Bqzx' is not a single token")
    folder = tiny(tmp_path / "rm", LlamaForSequenceClassification, num_labels=2)
    refused(compose(*SMALL, "judge=reward", f"judge.model={folder}"), "2 outputs, expected one reward")
    refused(compose(*SMALL, "judge=similarity", "judge.model=no/such-model"), "not a folder, and not on the Hub")


def test_a_judges_limits_are_held_against_the_whole_sweep(compose: Compose, tmp_path: Path) -> None:
    pytest.importorskip("httpx")
    options = [*SMALL, *eval_file(tmp_path, ROWS), f"output_dir={tmp_path / 'runs'}"]
    asked = ["judge=endpoint", "judge.model=m", "judge.base_url=http://127.0.0.1:9/v1", "judge.order=both"]
    sweep = [compose(*options, *asked, f"noise={noise}", "judge.max_calls=15") for noise in ("none", "symnoise")]
    prepare(make_plan(sweep[:1]))  # 4 instructions in both orders: 8 calls
    with pytest.raises(ValueError, match=r"16 calls, about 0.00 USD, but judge.max_calls=15 with 0 calls"):
        prepare(make_plan(sweep))
    assert not (tmp_path / "runs").exists()
    priced = compose(*options, *asked, "judge.usd_per_million_input=10")
    refused(priced, r"8 calls, about 0\.0\d USD .*; allow the sum with judge\.max_usd=USD")
    prepare(make_plan([priced.model_copy(update={"stages": ["judge"]})]))  # nothing is trained for it: its stage asks


def test_what_was_spent_counts(compose: Compose, tmp_path: Path) -> None:
    pytest.importorskip("httpx")
    from harness.judge.base import Comparison, Verdict
    from harness.judge.judges.registry import load_judge
    from harness.judge.store import VerdictStore

    limits = ["judge=endpoint", "judge.model=m", "judge.base_url=http://127.0.0.1:9/v1", "judge.max_calls=10"]
    config = compose(*SMALL, *eval_file(tmp_path, ROWS), *limits, f"judge.store={tmp_path / 'verdicts.sqlite'}")
    identity = load_judge(config.judge, False, tmp_path).identity
    with VerdictStore(tmp_path / "verdicts.sqlite") as store:
        store.save(identity, [(Comparison("other", "a", "b"), Verdict(1.0, calls=3))])
    refused(config, "8 calls, about 0.00 USD, but judge.max_calls=10 with 3 calls")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.dtype=bfloat16", "train.method=lora"], r"train\.method=lora on a base of less than 32 bits"),
        (["model=pythia_70m"], r"generate\.backend=engine: does not know model_type=gpt_neox"),
    ],
)
def test_the_engine_is_refused_for_models_that_it_does_not_know(
    overrides: list[str], message: str, compose: Compose
) -> None:
    pytest.importorskip("peft")
    options = overrides if "model=pythia_70m" in overrides else [*SMALL, *overrides]
    config = compose(*options, "generate.backend=engine")
    from harness.generate.checks import check_backend

    with pytest.raises(ValueError, match=message):
        check_backend(config)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "a\0b"}, r"row 2: key 'instruction' holds a NUL character at 1; fix the file"),
        ({"output": "a\ud800"}, r"row 2: key 'output' holds half a surrogate pair"),
        ({"instruction": " \n"}, "row 2: key 'instruction' is empty"),
        ({"instruction": 7}, "row 2: key 'instruction' must be text, found int: '7'"),
        ({"generator": 7}, "row 2: key 'generator' must be text, found int: '7'"),
        ({"instruction": "first", "input": ""}, "row 2: key 'instruction' repeats that of .*row 1"),
    ],
)
def test_bad_rows_of_an_evaluation_set(row: dict[str, Any], message: str, compose: Compose, tmp_path: Path) -> None:
    rows = [{"instruction": "first", "output": "x"}, {"instruction": "second", "output": "y", **row}]
    config = compose(*SMALL, *eval_file(tmp_path, rows))
    with pytest.raises(ValueError, match=message):
        make_plan([config])


def test_an_evaluation_rows_input_is_asked_too(compose: Compose, tmp_path: Path) -> None:
    rows = [{"instruction": "Translate.", "input": word, "output": "x"} for word in ("chat", "chien")]
    items = load_eval_items(compose(*eval_file(tmp_path, rows)).eval_set)
    assert [item.text for item in items] == ["Translate.\n\nchat", "Translate.\n\nchien"]


def test_the_command_stops_before_it_trains(tmp_path: Path) -> None:
    options = [*SMALL, *eval_file(tmp_path, ROWS), "tracking=disabled", "generate.max_length=20"]
    done = harness("-m", "noise=none,symnoise", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "error: generate.max_length=20: the prompt of eval_set's instruction"
    )
    assert not (tmp_path / "runs").exists()


def test_tiny_has_one_definition(compose: Compose) -> None:
    from harness.models.load import load_model
    from harness.models.meta import published_config
    from harness.models.tokenizer import load_tokenizer

    settings = compose(*SMALL).model
    model, bare = load_model(settings, seed=0), published_config(settings)
    assert bare is not None
    ids = {"bos_token_id", "eos_token_id", "pad_token_id"}
    built, described = model.config.to_dict(), bare.to_dict()
    ours = set(built) - ids - {"dtype", "architectures"}
    assert {key: built[key] for key in ours} == {key: described[key] for key in ours}
    assert model.config.eos_token_id == load_tokenizer(settings).eos_token_id
    assert model.dtype == torch.float32
