"""The numbers of the papers and of the AlpacaEval leaderboard, as pure functions of arrays and texts."""

from harness.metrics.difficulty import load_difficulty, load_gamed, reference_positions
from harness.metrics.intervals import cluster_bootstrap, cluster_standard_error, paired_bootstrap
from harness.metrics.length_control import length_controlled_win_rate
from harness.metrics.preferences import (
    length_matched_win_rate,
    win_fractions,
    win_rate,
    win_rate_by_category,
)
from harness.metrics.text import (
    bleu,
    corpus_diversity,
    corpus_measures,
    log_diversity,
    repetition,
    rouge_l,
)

__all__ = [
    "bleu",
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
    "win_fractions",
    "win_rate",
    "win_rate_by_category",
]
