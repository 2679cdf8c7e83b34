"""Measures of generated text: length, repetition, diversity, overlap with answers, how generation ended."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any, Literal, get_args

Form = Literal["textbook", "paper"]

_MAX_LOG_DIVERSITY = 20.0  # the value of a text without any repeated n-gram
_DIVERSITY_NGRAMS = (2, 3, 4)
_ROUGE_WORD = re.compile("[a-z0-9]+")


def repetition(text: str, n: int, words: int | None = None, form: Form = "textbook") -> float:
    """Share of repeated n-grams among the n-grams of a text's first words: 1 - unique / all.

    Args:
        text: split at white space; nothing is lower-cased and punctuation stays with its word.
        n: words in an n-gram.
        words: cut after this many; None takes the whole text.
        form: "textbook" counts every n-gram; "paper" leaves out the last one, as the code behind NEFTune
            Table 4.

    Returns:
        Fraction in [0, 1); NEFTune Table 4 prints it in percent for n = 2.

    Raises:
        ValueError: the text has fewer words than `words`, or too few for one n-gram, or form is unknown.

    Source: NEFTune 2310.05914 Table 4; "paper" as in lm-watermarking's repetition_diversity.py.
    """
    return _repetition(_first_words(text, words), n, form)


def log_diversity(text: str, words: int | None = None, form: Form = "textbook") -> float:
    """-log(1 - product over n = 2, 3, 4 of the share of unique n-grams) of a text's first words, at most 20.

    Args:
        text, words: as in `repetition`.
        form: "textbook" takes the shares as they are. "paper" takes 1 - repetition / 100, with repetition a
            fraction although the formula means percent, and leaves out the last n-gram. Only "paper"
            compares with
            the published 8 to 17: its values lie above log(100/3) - log(repetition).

    Returns:
        Natural log, in [0, 20]; 20 if no n-gram repeats.

    Raises:
        ValueError: as in `repetition`.

    Source: NEFTune 2310.05914 Table 4, after Kirchenbauer et al. 2306.04634; "paper" as in lm-watermarking's
    repetition_diversity.py.
    """
    return _log_diversity(_first_words(text, words), form)


def corpus_diversity(texts: Sequence[str], words: int) -> dict[str, Any]:
    """Mean 2-gram repetition and log-diversity, in both forms, of the texts with at least `words` words.

    Args:
        texts: outputs of one model.
        words: W; NEFTune Table 4 takes 50 (Alpaca), 100 (Evol-Instruct), 150 (ShareGPT), 150 (OpenPlatypus).

    Returns:
        words; n_texts measured; n_dropped, the shorter texts; repetition_2 and repetition_2_paper as
        fractions; log_diversity and log_diversity_paper. The means are NaN if every text is shorter.

    Raises:
        ValueError: words is too small for the 4-grams of the "paper" form (below 5).
    """
    if words < max(_DIVERSITY_NGRAMS) + 1:
        raise ValueError(f"words is {words}, expected at least {max(_DIVERSITY_NGRAMS) + 1}")
    split = [text.split() for text in texts]
    cut = [tokens[:words] for tokens in split if len(tokens) >= words]
    return {
        "words": words,
        "n_texts": len(cut),
        "n_dropped": len(split) - len(cut),
        "repetition_2": _mean([_repetition(tokens, 2, "textbook") for tokens in cut]),
        "repetition_2_paper": _mean([_repetition(tokens, 2, "paper") for tokens in cut]),
        "log_diversity": _mean([_log_diversity(tokens, "textbook") for tokens in cut]),
        "log_diversity_paper": _mean([_log_diversity(tokens, "paper") for tokens in cut]),
    }


def corpus_measures(texts: Sequence[str], finish_reasons: Sequence[str] | None = None) -> dict[str, Any]:
    """Lengths and oddities of one model's outputs.

    Args:
        texts: (N,) outputs, untouched (an output of white space alone is not empty).
        finish_reasons: (N,) "stop" where the model ended its text, "length" where the token limit cut it.

    Returns:
        n_texts, n_empty; characters_mean, characters_median (Unicode code points, as AlpacaEval counts);
        words_mean, words_median (split at white space); non_ascii_share, the share of outputs with any
        character outside ASCII; with finish_reasons also token_limit_share and end_of_text_rate. Shares
        are in [0, 1].

    Raises:
        ValueError: there are no texts, the lengths differ, or a finish reason is neither "stop" nor "length".
    """
    if not texts:
        raise ValueError("texts: there are none")
    characters = [len(text) for text in texts]
    words = [len(text.split()) for text in texts]
    measures: dict[str, Any] = {
        "n_texts": len(texts),
        "n_empty": characters.count(0),
        "characters_mean": fmean(characters),
        "characters_median": float(median(characters)),
        "words_mean": fmean(words),
        "words_median": float(median(words)),
        "non_ascii_share": fmean(not text.isascii() for text in texts),
    }
    return measures if finish_reasons is None else {**measures, **_endings(finish_reasons, len(texts))}


def rouge_l(outputs: Sequence[str], answers: Sequence[str]) -> float:
    """Mean ROUGE-L F1 of the outputs against one answer each, in percent, without stemming.

    Words are runs of a-z and 0-9 of the lower-cased text, so text in other scripts scores 0. Equal to the package
    rouge-score, which loads a natural-language library for a second in every process.

    Raises:
        ValueError: there are no outputs, or the answers differ in number.

    Source: Lin 2004; NEFTune 2310.05914 Figure 5 (against training answers).
    """
    _check_pairs(outputs, answers)
    pairs = zip(outputs, answers, strict=True)
    return 100 * fmean(_rouge_l(_ROUGE_WORD.findall(a.lower()), _ROUGE_WORD.findall(b.lower())) for a, b in pairs)


def bleu(outputs: Sequence[str], answers: Sequence[str]) -> float:
    """Corpus BLEU of the outputs against one answer each, in percent, by sacrebleu's defaults (13a, exp
    smoothing).

    Raises:
        ValueError: there are no outputs, or the answers differ in number.

    Source: Papineni et al. 2002, Post 2018; NEFTune 2310.05914 Figure 5 (against training answers).
    """
    _check_pairs(outputs, answers)
    from sacrebleu import corpus_bleu

    return float(corpus_bleu(list(outputs), [list(answers)]).score)


def _first_words(text: str, words: int | None) -> list[str]:
    tokens = text.split()
    if words is None:
        return tokens
    if len(tokens) < words:
        raise ValueError(f"words is {words}, but the text has {len(tokens)}")
    return tokens[:words]


def _repetition(tokens: list[str], n: int, form: Form) -> float:
    if form not in get_args(Form):
        raise ValueError(f"form is {form!r}, expected one of {', '.join(get_args(Form))}")
    total = len(tokens) - n + (1 if form == "textbook" else 0)
    if n < 1 or total < 1:
        raise ValueError(f"n is {n}: the text's {len(tokens)} words hold no such n-gram")
    return 1 - len({tuple(tokens[start : start + n]) for start in range(total)}) / total


def _log_diversity(tokens: list[str], form: Form) -> float:
    unit = 100 if form == "paper" else 1
    diversity = math.prod(1 - _repetition(tokens, n, form) / unit for n in _DIVERSITY_NGRAMS)
    return -math.log(max(1 - diversity, math.exp(-_MAX_LOG_DIVERSITY)))


def _endings(finish_reasons: Sequence[str], rows: int) -> dict[str, float]:
    if len(finish_reasons) != rows:
        raise ValueError(f"finish_reasons: {len(finish_reasons)} entries for {rows} texts")
    for row, reason in enumerate(finish_reasons):
        if reason not in ("stop", "length"):
            raise ValueError(f'finish_reasons: row {row} is {reason!r}, expected "stop" or "length"')
    return {
        "token_limit_share": fmean(reason == "length" for reason in finish_reasons),
        "end_of_text_rate": fmean(reason == "stop" for reason in finish_reasons),
    }


def _rouge_l(output: list[str], answer: list[str]) -> float:
    """F1 of the longest common subsequence of words; 0 where one has none."""
    common = _longest_common_subsequence(output, answer)
    return 2 * common / (len(output) + len(answer)) if common else 0.0


def _longest_common_subsequence(a: list[str], b: list[str]) -> int:
    above = [0] * (len(b) + 1)
    for word in a:
        row = [0]
        for column, other in enumerate(b):
            row.append(above[column] + 1 if word == other else max(row[column], above[column + 1]))
        above = row
    return above[-1]


def _check_pairs(outputs: Sequence[str], answers: Sequence[str]) -> None:
    if not outputs or len(outputs) != len(answers):
        raise ValueError(f"answers: {len(answers)} for {len(outputs)} outputs, expected one each and at least one")


def _mean(values: list[float]) -> float:
    return fmean(values) if values else math.nan
