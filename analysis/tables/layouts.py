"""Every table by name, declared."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from analysis.study.comparable import BASELINE
from analysis.suggest import hint, is_pattern, listed
from analysis.tables.layout import TableLayout
from analysis.tables.needs import COMPARED, SEVERAL_NOISES, compared_with, metrics_like
from harness.metrics.names import WIN_RATE

_DIVERSITY = ("text/repetition_2_paper", "text/log_diversity_paper", "text/log_diversity", "text/measured")
_LENGTHS = ("shorter", "similar", "longer")
_UNREAD = "rows and columns are this project's: the paper's numbers for this table could not be read"

_LAYOUTS = (
    TableLayout(
        "ablation",
        "Noise and alpha",
        optional=("judge/accuracy", "judge/partial_credit", "eval/loss"),
        differences=(WIN_RATE, "eval/loss"),
    ),
    TableLayout(
        "symnoise_table1",
        "SymNoise Table 1: win rate by training set",
        spread="dataset",
        choose_alpha=True,
        published=("symnoise_table1",),
    ),
    TableLayout(
        "symnoise_table2",
        "SymNoise Table 2: models",
        rows=("model", "noise", "alpha"),
        spread="dataset",
        choose_alpha=True,
        notes=(_UNREAD,),
    ),
    TableLayout(
        "symnoise_table3",
        "SymNoise Table 3: distribution of the noise",
        rows=("noise", "noise.distribution", "noise.pair", "alpha"),
        spread="dataset",
        published=("neftune_table6",),
        notes=("the paper's numbers could not be read; the published ones here are from NEFTune Table 6",),
    ),
    TableLayout(
        "symnoise_table4",
        "SymNoise Table 4: repetition and diversity",
        spread="dataset",
        metrics=_DIVERSITY,
        differences=(),
        notes=(_UNREAD,),
    ),
    TableLayout(
        "symnoise_fig1",
        "SymNoise Figure 1: win rate by training set, with and without noise",
        rows=("dataset", "noise", "alpha"),
        choose_alpha=True,
        published=("symnoise_table1",),
    ),
    TableLayout(
        "neftune_table2",
        "NEFTune Table 2: model sizes",
        rows=("model", "noise", "alpha"),
        choose_alpha=True,
        published=("neftune_table2",),
    ),
    TableLayout(
        "neftune_fig2",
        "NEFTune Figure 2: models by training sets",
        rows=("model", "noise", "alpha"),
        spread="dataset",
        choose_alpha=True,
        published=("neftune_fig2",),
    ),
    TableLayout(
        "neftune_table4",
        "NEFTune Table 4: repetition and diversity",
        rows=("dataset", "noise", "alpha"),
        metrics=_DIVERSITY,
        differences=(),
        choose_alpha=True,
        published=("neftune_table4",),
    ),
    TableLayout(
        "neftune_table6",
        "NEFTune Table 6: uniform and Gaussian noise",
        spread="dataset",
        published=("neftune_table6",),
    ),
    TableLayout(
        "neftune_table11",
        "NEFTune Table 11: judges",
        rows=("judge", "noise", "alpha"),
        spread="dataset",
        notes=(_UNREAD,),
    ),
    TableLayout(
        "neftune_table12",
        "NEFTune Table 12: adversarial training",
        choose_alpha=True,
        published=("neftune_table12",),
        notes=("the paper's data set and judge for this table could not be verified",),
    ),
    TableLayout(
        "qlora",
        "NEFTune with QLoRA",
        rows=("model", "noise", "alpha"),
        spread="dataset",
        published=("qlora",),
    ),
    TableLayout(
        "epochs",
        "Epochs",
        rows=("noise", "alpha", "train.epochs"),
        choose_alpha=False,
        published=("epochs",),
    ),
    TableLayout(
        "open_llm",
        "OpenLLM tasks",
        metrics=("lm_eval/arc", "lm_eval/hellaswag", "lm_eval/mmlu", "lm_eval/truthfulqa"),
        differences=(),
        choose_alpha=True,
        published=("open_llm",),
    ),
    TableLayout(
        "symnoise_gain",
        "SymNoise over NEFTune: points and percent",
        choose_alpha=True,
        baseline="neftune",
        relative=(WIN_RATE,),
        detectable=True,
        notes=("the improvement of 6.7% in SymNoise's abstract is relative: 64.69 to 69.04, +4.35 points",),
    ),
    TableLayout(
        "length_bias",
        "Win rate by length of the answer",
        metrics=(WIN_RATE, *(f"length/{what}_{each}" for each in _LENGTHS for what in ("share", "win_rate"))),
        differences=(),
        notes=(
            "shorter, similar, longer: characters under 0.8, up to 1.25, or over 1.25 times those of the reference",
        ),
    ),
    TableLayout(
        "accuracy",
        "Accuracy by split and level, where a checker marks the answers",
        metrics=("judge/accuracy",),
        optional=("judge/accuracy/*",),
        differences=("judge/accuracy/heldout", "judge/accuracy/unseen"),
    ),
    TableLayout("leaderboard", "AlpacaEval leaderboard", rows=("model", "noise", "alpha"), published=("leaderboard",)),
    TableLayout("alpha_grid", "Alpha", spread="dataset", choose_alpha=True, published=("neftune_table6",)),
    TableLayout(
        "noise_types",
        "Noise types: distribution, scale and pairing",
        rows=("noise", "noise.distribution", "noise.scale", "noise.pair", "alpha"),
        optional=("noise/norm", "noise/ratio", "eval/loss"),
        differences=(WIN_RATE, "eval/loss"),
        needs=SEVERAL_NOISES,
    ),
    TableLayout(
        "compute_matched",
        "Compute-matched: difference to two independent draws",
        rows=("noise", "noise.pair", "alpha"),
        metrics=(WIN_RATE, "train/seconds"),
        optional=("train/documents", "train/rows", "train/tokens", "train/flops", "eval/loss"),
        differences=(WIN_RATE, "eval/loss"),
        baseline="bernoulli_x2",
        needs=compared_with("bernoulli_x2"),
    ),
    TableLayout(
        "overhead",
        "Overhead and stability",
        metrics=("train/seconds", "stability/grad_norm_max"),
        optional=(
            *("stability/clipped_percent", "stability/loss_spikes", "train/tokens_per_second", "train/flops"),
            *("train/peak_memory_gb", "noise/time_percent"),
        ),
        differences=(),
        relative=("train/seconds", "train/flops"),
        endings=True,
        notes=("times compare only within one machine",),
    ),
    TableLayout(
        "probes",
        "Probes: smoothness without noise",
        metrics=("eval/loss",),
        optional=(
            *("probe/slope/*/5", "probe/curvature/*/5", "probe/symmetric_kl/*/5", "probe/flips/*/5"),
            *("probe/gradient_norm", "probe/trace", "probe/top_eigenvalue"),
        ),
        differences=("probe/slope/rademacher/5", "probe/curvature/rademacher/5", "probe/top_eigenvalue"),
        notes=("slope is |l(X+e) - l(X-e)| / 2|e|, curvature (l(X+e) + l(X-e) - 2 l(X)) / |e|^2, at |e| = 5",),
        needs=metrics_like("probe/*"),
    ),
    TableLayout(
        "probe_radii",
        "Probes: curvature by radius",
        metrics=("eval/loss",),
        optional=("probe/curvature/rademacher/*", "probe/rounding"),
        differences=(),
        notes=("a curvature times |e|^2 that is not well above rounding says nothing",),
    ),
    TableLayout(
        "overfitting",
        "Probes: training, held-out and unseen examples without noise",
        metrics=("eval/loss",),
        optional=(
            *("probe/train/loss", "probe/heldout/loss", "probe/unseen/loss", "probe/gap", "probe/heldout/entropy"),
            *("probe/heldout/ece", "probe/train/exact_half", "probe/heldout/exact_half"),
            *("probe/train/rouge_l", "probe/heldout/rouge_l"),
            *("probe/weight_distance", "probe/relative_weight_distance"),
        ),
        differences=("probe/train/loss", "probe/heldout/loss", "probe/gap"),
    ),
    TableLayout(
        "differences",
        "Differences to no noise: absolute and relative",
        relative=(WIN_RATE,),
        detectable=True,
        verdicts=True,
        bootstrap=True,
        notes=("bootstrap: seeds and instructions resampled; too narrow with few seeds, see docs/analysis.md",),
        needs=COMPARED,
    ),
)
LAYOUTS = {layout.name: layout for layout in _LAYOUTS}


def layout_named(name: str) -> TableLayout:
    """The table of that name.

    Raises:
        ValueError: there is none.
    """
    layouts = LAYOUTS | installed_layouts()
    if name not in layouts:
        meant = hint(name, [*layouts, "custom"]) or f"; choose from {', '.join(layouts)}, custom"
        if Path(name).is_dir():
            meant = f", but a folder; `python -m analysis table NAME {name}`, for instance with ablation as NAME"
        raise ValueError(f"table {name!r}: there is no such table{meant}")
    return layouts[name]


@cache
def installed_layouts() -> dict[str, TableLayout]:
    """Tables from other installed packages: entry points of the group `noise_harness.tables`, by name.

    Raises:
        ValueError: one is not a `TableLayout`, or has the name of an existing table.
    """
    found: dict[str, TableLayout] = {}
    for point in entry_points(group="noise_harness.tables"):
        layout = point.load()
        if not isinstance(layout, TableLayout) or point.name in LAYOUTS:
            raise ValueError(f"entry point {point.name} = {point.value}: needs a TableLayout with a name of its own")
        found[point.name] = layout
    return found


def custom_layout(
    rows: str | None,
    columns: str | None,
    metrics: str | None,
    differences: str | None = None,
    baseline: str | None = None,
) -> TableLayout:
    """A table by names: comma-separated settings, a setting to spread over columns, metrics or patterns of them.

    differences: metrics to compare with noise=`baseline`; by default the win rate, if shown.

    Raises:
        ValueError: a metric or noise to compare is not shown, or there are several --columns.
    """
    names = listed(metrics or "") or (WIN_RATE,)
    shown = listed(rows or "") or ("noise", "alpha")
    fixed = tuple(name for name in names if not is_pattern(name))
    patterns = tuple(name for name in names if is_pattern(name))
    asked = listed(differences or "")
    compared = asked or tuple(name for name in fixed if name == WIN_RATE)
    if hidden := [name for name in compared if name not in fixed]:
        raise ValueError(f"--differences {hidden[0]}: not among --metrics {','.join(names)}; name it there without a *")
    if (asked or baseline) and "noise" not in shown:
        raise ValueError(f"--differences, --baseline: compare noises, but noise is not among --rows {','.join(shown)}")
    if columns and len(listed(columns)) != 1:
        raise ValueError(f"--columns {columns}: one setting, whose values get a group of columns each")
    return TableLayout(
        "custom",
        "Custom table",
        rows=shown,
        spread=columns.strip() if columns else None,
        metrics=fixed,
        optional=patterns,
        differences=compared,
        baseline=baseline or BASELINE,
        by_name=True,
    )
