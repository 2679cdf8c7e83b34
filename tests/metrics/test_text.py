"""Measures of text: hand-computed small texts, and the definition of the papers' form written out again."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from harness.metrics import bleu, corpus_diversity, corpus_measures, log_diversity, repetition, rouge_l

TEXT = "a b a b a b c"  # 2-grams: ab ba ab ba ab bc


def test_repetition_by_hand() -> None:
    assert repetition(TEXT, 2, 7) == pytest.approx(1 - 3 / 6)  # ab ba bc of 6
    assert repetition(TEXT, 2, 7, form="paper") == pytest.approx(1 - 2 / 5)  # without the last, bc
    assert repetition(TEXT, 2, 4) == pytest.approx(1 - 2 / 3)  # of "a b a b": ab ba ab
    assert repetition(TEXT, 1) == pytest.approx(1 - 3 / 7)


def test_log_diversity_by_hand() -> None:
    # n = 2: 3 of 6; n = 3: aba bab aba bab abc -> 3 of 5; n = 4: abab baba abab babc -> 3 of 4
    assert log_diversity(TEXT, 7) == pytest.approx(-math.log(1 - 3 / 6 * 3 / 5 * 3 / 4), abs=1e-12)
    # without the last n-gram: repetition 3/5, 2/4 and 1/3, each divided by 100
    product = (1 - 0.006) * (1 - 0.005) * (1 - 1 / 300)
    assert log_diversity(TEXT, 7, form="paper") == pytest.approx(-math.log(1 - product), abs=1e-10)


def test_no_repeats_reach_the_cap() -> None:
    text = " ".join(map(str, range(50)))
    assert log_diversity(text, 50) == 20
    assert log_diversity(text, 50, form="paper") == 20
    assert repetition(text, 2, 50) == 0


def test_case_and_punctuation_stay() -> None:
    assert repetition("The the the. the,", 1) == 0
    assert repetition("the  the\n the\tend", 1) == pytest.approx(0.5)


def _paper_form(tokens: list[str]) -> float:
    """-log(1 - prod(1 - r_n / 100)), r_n the fraction of repeats among the n-grams but the last."""
    shares = []
    for n in (2, 3, 4):
        grams = [" ".join(tokens[i : i + n]) for i in range(len(tokens))][: len(tokens) - n]
        shares.append((len(grams) - len(set(grams))) / len(grams))
    inner = 1.0
    for share in shares:
        inner *= 1.0 - share / 100.0
    return min(20.0, -math.log(1.0 - inner)) if inner < 1.0 else 20.0


@given(st.lists(st.sampled_from("ab"), min_size=6, max_size=30))
def test_paper_form_equals_its_definition(tokens: list[str]) -> None:
    # 1e-9: 1 - product loses about 4 digits to cancellation
    assert log_diversity(" ".join(tokens), form="paper") == pytest.approx(_paper_form(tokens), abs=1e-9)


@given(st.lists(st.sampled_from("abcd"), min_size=8, max_size=30))
def test_paper_form_lies_above_the_textbook(tokens: list[str]) -> None:
    text = " ".join(tokens)
    assert 0 <= log_diversity(text) <= 20
    if repetition(text, 2, form="paper") > 0:
        assert log_diversity(text, form="paper") > log_diversity(text) - 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: repetition("a b", 2, 3), "words is 3, but the text has 2"),
        (lambda: repetition("a b", 2, form="paper"), "n is 2"),
        (lambda: repetition("a b", 0), "n is 0"),
        (lambda: repetition("a b", 2, form="other"), "form is 'other'"),  # type: ignore[arg-type]
        (lambda: log_diversity("a b c"), "n is 4"),
        (lambda: corpus_diversity(["a"], 4), "words is 4, expected at least 5"),
        (lambda: corpus_measures([]), "there are none"),
        (lambda: corpus_measures(["a"], []), "finish_reasons: 0 entries for 1"),
        (lambda: corpus_measures(["a"], ["eos"]), "row 0 is 'eos'"),
        (lambda: rouge_l([], []), "answers: 0 for 0"),
        (lambda: bleu(["a"], ["a", "b"]), "answers: 2 for 1"),
    ],
)
def test_what_is_refused(call: Callable[[], float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_shorter_outputs_are_dropped_and_counted() -> None:
    row = corpus_diversity([TEXT, TEXT + " d e f", "too short"], words=7)
    assert (row["words"], row["n_texts"], row["n_dropped"]) == (7, 2, 1)
    assert row["repetition_2"] == pytest.approx(1 / 2)
    assert row["repetition_2_paper"] == pytest.approx(3 / 5)
    assert row["log_diversity"] == pytest.approx(log_diversity(TEXT, 7))
    assert row["log_diversity_paper"] == pytest.approx(log_diversity(TEXT, 7, form="paper"))
    nothing = corpus_diversity(["too short"], words=7)
    assert nothing["n_dropped"] == 1
    assert math.isnan(nothing["log_diversity"])


def test_corpus_measures_by_hand() -> None:
    row = corpus_measures(["", " ", "two words", "na\u00efve \U0001f600"], ["stop", "length", "stop", "stop"])
    assert (row["n_texts"], row["n_empty"]) == (4, 1)
    assert row["characters_mean"] == pytest.approx((0 + 1 + 9 + 7) / 4)  # an emoji is one character
    assert row["characters_median"] == 4
    assert row["words_mean"] == 1
    assert row["non_ascii_share"] == 0.25
    assert row["token_limit_share"] == 0.25
    assert row["end_of_text_rate"] == 0.75
    assert "end_of_text_rate" not in corpus_measures(["a"])


def test_rouge_l_by_hand() -> None:
    # longest common subsequence of (the cat sat) and (the cat on the mat) is 2 words: P 2/3, R 2/5, F 1/2
    assert rouge_l(["The cat sat."], ["the cat on the mat"]) == pytest.approx(50.0, abs=1e-9)
    assert rouge_l(["a b", "x"], ["a b", "y"]) == pytest.approx(50.0, abs=1e-9)


@given(st.text("ab C1.-é\n", max_size=40), st.text("ab C1.-é\n", max_size=40))
def test_rouge_l_equals_the_package(output: str, answer: str) -> None:
    score = rouge_scorer.RougeScorer(["rougeL"]).score(answer, output)["rougeL"].fmeasure
    assert rouge_l([output], [answer]) == pytest.approx(100 * score, abs=1e-9)


def test_bleu_by_hand() -> None:
    # precisions 5/5 4/4 3/3 2/2 for 5 words against 6: only the brevity penalty exp(1 - 6/5) is left
    assert bleu(["a b c d e"], ["a b c d e f"]) == pytest.approx(100 * math.exp(-0.2), abs=1e-9)
    assert bleu(["a b c d"], ["a b c d"]) == pytest.approx(100, abs=1e-9)
