"""How metrics appear in tables: name, unit, and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from harness.metrics.names import (
    ACCURACY,
    CONTROLLED,
    DISCRETE,
    EPOCH,
    EVAL_LOSS,
    GLOBAL_STEP,
    GRAD_NORM,
    LEARNING_RATE,
    LENGTH,
    PARTIAL_CREDIT,
    TRAIN_LOSS,
    WIN_RATE,
)

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """How a metric is printed, without changing the number. decimals None: four significant digits."""

    name: str
    header: str
    unit: str = ""
    decimals: int | None = None
    better: Better = "neither"


# A raw win rate rewards length: if one of these is shown, all three are.
TOGETHER = (WIN_RATE, CONTROLLED, LENGTH)
# Those with a number for each instruction (`analysis.study.measures.ITEMS`), in the words of a note.
ITEMS_IN_WORDS = "win rate, accuracy, partial credit and length"
_WIN_RATES = (WIN_RATE, CONTROLLED, DISCRETE)

_KNOWN = (
    Metric(WIN_RATE, "win rate", "%", 1, "higher"),
    Metric(CONTROLLED, "length-controlled", "%", 1, "higher"),
    Metric(LENGTH, "length", "characters", 1),
    Metric(DISCRETE, "discrete win rate", "%", 1, "higher"),
    Metric(ACCURACY, "accuracy", "%", 1, "higher"),
    Metric(PARTIAL_CREDIT, "partial credit", "%", 1, "higher"),
    *(Metric(f"length/win_rate_{each}", f"win rate, {each}", "%", 1) for each in ("shorter", "similar", "longer")),
    *(Metric(f"length/share_{each}", f"answers, {each}", "%", 1) for each in ("shorter", "similar", "longer")),
    Metric(TRAIN_LOSS, "train loss", "nats", 3, "lower"),
    Metric(EVAL_LOSS, "eval loss", "nats", 3, "lower"),
    Metric("train/seconds", "training", "s", 1, "lower"),
    Metric("generate/seconds", "generation", "s", 1, "lower"),
    Metric("generate/tokens_per_second", "generation", "tokens/s", 0, "higher"),
    Metric("generate/stopped_percent", "ended by itself", "%", 1, "higher"),
    Metric("generate/empty_percent", "empty", "%", 1, "lower"),
    Metric(LEARNING_RATE, "learning rate"),
    Metric(EPOCH, "epoch", "", 2),
    Metric(GLOBAL_STEP, "steps", "", 0),
    Metric("train/documents", "examples seen", "", 0),
    Metric("train/rows", "rows forwarded", "", 0),
    Metric("train/tokens", "tokens forwarded", "", 0),
    Metric("train/flops", "training FLOP"),
    Metric("noise/norm", "norm of the noise", "", 3),
    Metric("noise/ratio", "noise to embedding", "", 3),
    Metric("train/tokens_per_second", "training", "tokens/s", 0, "higher"),
    Metric(GRAD_NORM, "gradient norm", "", 2),
    Metric("stability/grad_norm_max", "largest gradient norm", "", 2, "lower"),
    Metric("stability/clipped_percent", "clipped steps", "%", 1, "lower"),
    Metric("stability/loss_spikes", "loss spikes", "", 1, "lower"),
    Metric("train/peak_memory_gb", "peak memory", "GB", 2, "lower"),
    Metric("noise/time_percent", "time for the noise", "%", 1, "lower"),
    *(Metric(f"lm_eval/{name.lower()}", name, "%", 1, "higher") for name in ("ARC", "HellaSwag", "MMLU", "TruthfulQA")),
    Metric("text/repetition_2_paper", "2-gram repetition", "%", 2, "lower"),
    Metric("text/log_diversity_paper", "log-diversity, papers' form", "", 2, "higher"),
    Metric("text/log_diversity", "log-diversity", "", 2, "higher"),
    Metric("text/measured", "outputs measured", "", 0),
)
_PROBE_UNITS = {
    **dict.fromkeys(("loss", "gap", "entropy", "difference", "symmetric_kl", "rounding"), "nats"),
    **dict.fromkeys(("slope", "token_slope", "gradient_norm"), "nats per norm"),
    **dict.fromkeys(("curvature", "token_curvature", "mean_curvature", "top_eigenvalue"), "nats per norm²"),
    **{"trace": "nats per norm²", "logit_slope": "logits per norm", "logit_curvature": "logits per norm²"},
}
_BY_NAME = {metric.name: metric for metric in _KNOWN}


def metric(name: str) -> Metric:
    """The printed form of a metric; unlisted ones are printed under their own name."""
    return _BY_NAME.get(name) or _part(name) or _probe(name) or Metric(name, name)


def name_of(header: str) -> str | None:
    """The metric that tables show under this header: what somebody means who asks for "length"."""
    return next((each.name for each in _KNOWN if each.header == header), None)


def unit_of_difference(name: str) -> str:
    """Percentages differ in points; a relative change would be in percent."""
    unit = metric(name).unit
    return "points" if unit == "%" else unit


def _part(name: str) -> Metric | None:
    """judge/win_rate/CATEGORY, judge/accuracy/SPLIT or judge/partial_credit/SPLIT."""
    whole, _, part = name.rpartition("/")
    if whole not in (WIN_RATE, ACCURACY, PARTIAL_CREDIT):
        return None
    return replace(_BY_NAME[whole], name=name, header=f"{_BY_NAME[whole].header}, {part.replace('_', ' ')}")


def _probe(name: str) -> Metric | None:
    """probe/MEASURE/DISTRIBUTION/RADIUS, or probe/SPLIT/MEASURE (harness/probe)."""
    first, *parts = name.split("/")
    if first != "probe" or len(parts) not in (1, 2, 3):
        return None
    measure = parts[1] if len(parts) == 2 else parts[0]
    details = {1: "", 2: f", {parts[0]}", 3: f", {' '.join(parts[1:])}"}[len(parts)]
    return Metric(name, measure.replace("_", " ") + details, _PROBE_UNITS.get(measure, ""))


def with_companions(names: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics, with raw win rate, length-controlled win rate and mean length together, or none of them."""
    if not any(name in _WIN_RATES or name.startswith(f"{WIN_RATE}/") for name in names):
        return names
    first = next((i for i, name in enumerate(names) if name in TOGETHER), 0)
    rest = [name for name in names if name not in TOGETHER]
    before = sum(1 for name in names[:first] if name not in TOGETHER)
    return (*rest[:before], *TOGETHER, *rest[before:])
