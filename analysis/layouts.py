"""Every table by name, declared."""

from __future__ import annotations

from analysis.columns import WIN_RATE
from analysis.layout import Layout

_DIVERSITY = ("text/repetition_2_paper", "text/log_diversity_paper", "text/log_diversity", "text/measured")
_UNREAD = "rows and columns are this project's: the paper's own figures for this table could not be re-read"

_LAYOUTS = (
    Layout(
        "ablation",
        "Noise and alpha",
        optional=("judge/accuracy", "train/loss", "heldout/loss", "train/seconds"),
    ),
    Layout(
        "symnoise_table1",
        "SymNoise Table 1: win rate by training set",
        spread="dataset",
        choose_alpha=True,
        published=("symnoise_table1",),
    ),
    Layout(
        "symnoise_table2",
        "SymNoise Table 2: models",
        rows=("model", "noise", "alpha"),
        spread="dataset",
        choose_alpha=True,
        notes=(_UNREAD,),
    ),
    Layout(
        "symnoise_table3",
        "SymNoise Table 3: distribution of the noise",
        rows=("noise", "noise.distribution", "noise.pair", "alpha"),
        spread="dataset",
        published=("neftune_table6",),
        notes=("the paper's own figures could not be re-read; those beside ours are NEFTune Table 6's",),
    ),
    Layout(
        "symnoise_table4",
        "SymNoise Table 4: repetition and diversity",
        spread="dataset",
        metrics=_DIVERSITY,
        differences=(),
        notes=(_UNREAD,),
    ),
    Layout(
        "symnoise_fig1",
        "SymNoise Figure 1: win rate by training set, with and without noise",
        rows=("dataset", "noise", "alpha"),
        choose_alpha=True,
        published=("symnoise_table1",),
    ),
    Layout(
        "neftune_table2",
        "NEFTune Table 2: model sizes",
        rows=("model", "noise", "alpha"),
        choose_alpha=True,
        published=("neftune_table2",),
    ),
    Layout(
        "neftune_fig2",
        "NEFTune Figure 2: models by training sets",
        rows=("model", "noise", "alpha"),
        spread="dataset",
        choose_alpha=True,
        published=("neftune_fig2",),
    ),
    Layout(
        "neftune_table4",
        "NEFTune Table 4: repetition and diversity",
        rows=("dataset", "noise", "alpha"),
        metrics=_DIVERSITY,
        differences=(),
        choose_alpha=True,
        published=("neftune_table4",),
    ),
    Layout(
        "neftune_table6",
        "NEFTune Table 6: uniform and Gaussian noise",
        spread="dataset",
        published=("neftune_table6",),
    ),
    Layout(
        "neftune_table11",
        "NEFTune Table 11: judges",
        rows=("judge", "noise", "alpha"),
        spread="dataset",
        notes=(_UNREAD,),
    ),
    Layout(
        "neftune_table12",
        "NEFTune Table 12: adversarial training",
        choose_alpha=True,
        published=("neftune_table12",),
    ),
    Layout(
        "qlora",
        "NEFTune with QLoRA",
        rows=("model", "noise", "alpha"),
        spread="dataset",
        published=("qlora",),
    ),
    Layout(
        "epochs",
        "Epochs",
        rows=("noise", "alpha", "train.epochs"),
        choose_alpha=False,
        published=("epochs",),
    ),
    Layout(
        "open_llm",
        "OpenLLM tasks",
        metrics=("lm_eval/arc", "lm_eval/hellaswag", "lm_eval/mmlu", "lm_eval/truthfulqa"),
        differences=(),
        choose_alpha=True,
        published=("open_llm",),
    ),
    Layout("leaderboard", "AlpacaEval leaderboard", rows=("model", "noise", "alpha"), published=("leaderboard",)),
    Layout("alpha_grid", "Alpha", spread="dataset", choose_alpha=True, published=("neftune_table6",)),
    Layout(
        "noise_types",
        "Noise types: distribution, scale and pairing",
        rows=("noise", "noise.distribution", "noise.scale", "noise.pair", "alpha"),
        optional=("noise/norm", "noise/ratio", "heldout/loss"),
    ),
    Layout(
        "compute_matched",
        "Compute-matched: difference to two independent draws",
        rows=("noise", "noise.pair", "alpha"),
        metrics=(WIN_RATE, "train/seconds"),
        optional=("train/documents", "train/rows", "train/tokens", "train/flops", "heldout/loss"),
        baseline="bernoulli_x2",
    ),
    Layout(
        "overhead",
        "Overhead and stability",
        metrics=("train/seconds", "history/max_grad_norm"),
        optional=("train/tokens_per_second", "train/flops", "train/peak_*"),
        differences=(),
        relative=("train/seconds",),
        endings=True,
        notes=("times compare only within one machine",),
    ),
    Layout("probes", "Probes", metrics=("heldout/loss",), optional=("probe/*",), differences=()),
    Layout(
        "differences",
        "Differences to no noise: absolute and relative",
        relative=(WIN_RATE,),
        detectable=True,
    ),
)
LAYOUTS = {layout.name: layout for layout in _LAYOUTS}


def layout_named(name: str) -> Layout:
    """The table of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in LAYOUTS:
        raise ValueError(f"table {name!r}: there is no such table; choose from {', '.join(LAYOUTS)}, custom")
    return LAYOUTS[name]


def custom_layout(rows: str | None, columns: str | None, metrics: str | None) -> Layout:
    """A table by names: comma-separated settings, a setting to spread over columns, metrics or patterns of them."""
    names = tuple((metrics or WIN_RATE).split(","))
    fixed = tuple(name for name in names if "*" not in name)
    patterns = tuple(name for name in names if "*" in name)
    return Layout(
        "custom",
        "Custom table",
        rows=tuple((rows or "noise,alpha").split(",")),
        spread=columns,
        metrics=fixed,
        optional=patterns,
        differences=tuple(name for name in fixed if name == WIN_RATE),
    )
