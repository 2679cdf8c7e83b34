"""The stage `probe`: measure the trained model without noise, into probes.json and the summary."""

from __future__ import annotations

from typing import Any

from harness.context import Run, StageResult
from harness.data.documents import load_documents
from harness.data.saved_template import with_template
from harness.models.load import load_model
from harness.models.place import located, place
from harness.probe.examples import Probed, probed_examples
from harness.probe.gradient_noise import figures_of, gradient_noise
from harness.probe.memorisation import corpus_bleu, memorisation_rows
from harness.probe.predictions import prediction_rows
from harness.probe.smoothness.smoothness import passes, smoothness
from harness.probe.summary import Figure, figures, flat, gap_figure, mean_figure
from harness.probe.weights import weight_distance
from harness.record import write_json

Row = dict[str, Any]


def run(run: Run) -> StageResult:
    """Write probes.json: settings, one row per example and measure, and summaries with intervals."""
    probed = probed_examples(run.config)
    run.folder.log(f"probe: {located(run.trained_model())}")
    if not probed.heldout:
        run.folder.log("probe: no held-out examples (dataset.heldout=0), so no smoothness probes")
    smooth = _smoothness(run, probed)
    predictions = _predictions(run, probed)
    memorisation = _memorisation(run, probed)
    found = {**figures(smooth, "probe"), **_prediction_figures(predictions), **_memorisation_figures(memorisation)}
    if run.config.probe.benchmarks.tasks:
        found |= _benchmarks(run)
    base = load_model(run.config.model, run.config.seed)
    distances = weight_distance(run.trained_model(), base)
    gradient = _gradient_noise(run, base)
    for which, rows in gradient.items():
        found |= figures_of(rows, f"probe/gradient/{which}")
    content = {
        "settings": run.config.probe.model_dump(mode="json"),
        "smoothness": smooth,
        "predictions": predictions,
        "memorisation": memorisation,
        "gradient": gradient,
        "weights": distances,
        "figures": found,
    }
    write_json(run.folder / "probes.json", content)
    return StageResult(
        flat(found) | {f"probe/{name}": value for name, value in distances.items()}, files=["probes.json"]
    )


def _smoothness(run: Run, probed: Probed) -> list[Row]:
    settings = run.config.probe
    documents = probed.heldout[: settings.examples]
    if not documents:
        return []
    with run.progress("probe", passes(documents, settings), "batch") as progress:
        return smoothness(run.trained_model(), documents, settings, progress.update)


def _predictions(run: Run, probed: Probed) -> list[Row]:
    """Rows with their split: train, heldout, unseen."""
    settings = run.config.probe
    splits = {
        "train": probed.trained,
        "heldout": probed.heldout[: settings.overfitting_examples],
        "unseen": probed.unseen,
    }
    return [
        {"split": split, **row}
        for split, documents in splits.items()
        if documents
        for row in prediction_rows(run.trained_model(), documents, settings.max_tokens)
    ]


def _prediction_figures(rows: list[Row]) -> dict[str, Figure]:
    by_split = {split: [row for row in rows if row["split"] == split] for split in ("train", "heldout", "unseen")}
    found: dict[str, Figure] = {}
    for split, ours in by_split.items():
        found |= figures(ours, f"probe/{split}")
    if by_split["train"] and by_split["heldout"]:
        found["probe/gap"] = gap_figure(by_split["heldout"], by_split["train"])
    return found


def _memorisation(run: Run, probed: Probed) -> list[Row]:
    """Rows with their split: train and, to show what generalisation alone achieves, heldout."""
    settings, tokenizer = run.config.probe, run.tokenizer()
    splits = {
        "train": probed.trained[: settings.memorisation_examples],
        "heldout": probed.heldout[: settings.memorisation_examples],
    }
    return [
        {"split": split, **row}
        for split, documents in splits.items()
        if documents
        for row in memorisation_rows(run.trained_model(), tokenizer, documents, settings.memorisation_tokens)
    ]


def _memorisation_figures(rows: list[Row]) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for split in dict.fromkeys(row["split"] for row in rows):
        ours = [row for row in rows if row["split"] == split]
        found[f"probe/{split}/rouge_l"] = mean_figure([row["rouge_l"] for row in ours])
        found[f"probe/{split}/bleu"] = {"mean": corpus_bleu(ours), "n": len(ours)}
    return found


def _gradient_noise(run: Run, base: Any) -> dict[str, list[Row]]:
    """Rows by model, of those asked for; those of too few documents are left out, and the log says so."""
    settings = run.config.probe.gradient
    if not settings.twos:
        return {}
    documents = load_documents(run.config.dataset, run.config.model).train
    twos = min(settings.twos, len(documents) // (2 * settings.batch_size))
    if twos < settings.twos:
        run.folder.log(f"probe: gradient noise of {twos} twos of batches: {len(documents)} documents have no more")
    models = {"base": base, "trained": run.trained_model()}
    found: dict[str, list[Row]] = {}
    for which in settings.models if twos else ():
        with run.progress("gradient noise", twos, "two") as progress:
            seed, most = run.config.probe.seed, run.config.probe.max_tokens
            found[which] = gradient_noise(place(models[which]), documents, settings, seed, most, progress.update)
    return found


def _benchmarks(run: Run) -> dict[str, Figure]:
    from harness.probe.benchmarks import benchmark_figures

    settings, tokenizer = run.config.probe, with_template(run.tokenizer(), run.config.dataset.prompt)
    return benchmark_figures(run.trained_model(), tokenizer, settings.benchmarks, settings.seed)
