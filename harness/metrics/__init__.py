"""The numbers of the papers and of the AlpacaEval leaderboard, as pure functions of arrays and texts.

Importing the package imports nothing; a name brings its own module. numpy is enough for most; length control needs
pandas and scikit-learn (extra `judge`), `bleu` sacrebleu.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.metrics.difficulty import load_difficulty, load_gamed, reference_positions
    from harness.metrics.halves import choosing_half
    from harness.metrics.intervals import cluster_bootstrap, cluster_standard_error, paired_bootstrap
    from harness.metrics.length_control import length_controlled_win_rate
    from harness.metrics.preferences import (
        length_matched_win_rate,
        win_fractions,
        win_rate,
        win_rate_by_category,
    )
    from harness.metrics.style_control import style_controlled_win_rates
    from harness.metrics.text import (
        bleu,
        corpus_diversity,
        corpus_measures,
        log_diversity,
        repetition,
        rouge_l,
    )

_MODULES = {
    "difficulty": ("load_difficulty", "load_gamed", "reference_positions"),
    "halves": ("choosing_half",),
    "intervals": ("cluster_bootstrap", "cluster_standard_error", "paired_bootstrap"),
    "length_control": ("length_controlled_win_rate",),
    "preferences": ("length_matched_win_rate", "win_fractions", "win_rate", "win_rate_by_category"),
    "style_control": ("style_controlled_win_rates",),
    "text": ("bleu", "corpus_diversity", "corpus_measures", "log_diversity", "repetition", "rouge_l"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "bleu",
    "choosing_half",
    "cluster_bootstrap",
    "cluster_standard_error",
    "corpus_diversity",
    "corpus_measures",
    "length_controlled_win_rate",
    "length_matched_win_rate",
    "load_difficulty",
    "load_gamed",
    "log_diversity",
    "paired_bootstrap",
    "reference_positions",
    "repetition",
    "rouge_l",
    "style_controlled_win_rates",
    "win_fractions",
    "win_rate",
    "win_rate_by_category",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
