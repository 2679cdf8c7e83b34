"""The model card: what was trained, on what, with which noise, what was measured; nothing in it is typed by hand."""

from __future__ import annotations

import html
import re
from pathlib import PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from harness.config import Config
from harness.record.provenance import as_typed

_LOADING = {
    "adapter": (
        "from peft import AutoPeftModelForCausalLM\n"
        "model = AutoPeftModelForCausalLM.from_pretrained(FOLDER)  # fetches the base model"
    ),
    "full": "from transformers import AutoModelForCausalLM\nmodel = AutoModelForCausalLM.from_pretrained(FOLDER)",
}
_KINDS = {
    "full": "all weights were trained",
    "adapter": "a low-rank adapter; its base model is needed beside it",
    "merged": "a low-rank adapter, merged into its base model's weights",
}


def model_card(
    config: Config, summary: dict[str, Any], provenance: dict[str, Any], kind: str, licence: str | None = None
) -> str:
    """README.md in the Hub's form: YAML front matter (written by huggingface_hub) and text."""
    sections = [
        f"---\n{_front_matter(config, summary, kind, licence)}\n---",
        f"# {_text(summary['run_id'])}",
        _introduction(config, kind),
        "## Training",
        _table([("setting", "value"), *_settings(config)]),
        "## Results",
        _table([("measure", "value"), *_results(summary)]),
        f"Judge: {_text(summary.get('judge'))}; instructions: {_text(config.eval_set.name)}. One run with seed "
        f"{config.seed}: a difference between two such runs says nothing without the spread over seeds.",
        "## Use",
        f"```python\n{_LOADING.get(kind, _LOADING['full'])}\n```",
        f"The prompt is that of training ({_text(config.dataset.prompt)}), without a line end after its last word; "
        f"decoding was greedy with a repetition penalty of {config.generate.repetition_penalty:g}.",
        "## Limits",
        "A research model for the study of embedding noise. Its answers were not checked for truth or harm. Licences "
        "of the base model and of the data apply to it.",
        "## Provenance",
        _table([("what", "value"), *_provenance(provenance)]),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(config: Config, summary: dict[str, Any], kind: str, licence: str | None) -> str:
    shown = {key: value for key, value in summary["final"].items() if key.startswith(("judge/", "heldout/"))}
    results = [
        EvalResult("text-generation", config.eval_set.name, config.eval_set.name, key.replace("/", "_"), value)
        for key, value in sorted(shown.items())
        if isinstance(value, int | float)
    ]
    data = ModelCardData(
        base_model=config.model.hub_id or config.model.name,
        library_name="peft" if kind == "adapter" else "transformers",
        license=licence,
        model_name=summary["run_id"],
        pipeline_tag="text-generation",
        tags=["embedding-noise", config.noise.name, config.dataset.name],
        eval_results=results or None,
    )
    return data.to_yaml()


def _introduction(config: Config, kind: str) -> str:
    noise = f"noise={config.noise.name}"
    if config.noise.distribution != "none":
        noise += f" (alpha {config.alpha:g})"
    return (
        f"{_text(config.model.name)}, fine-tuned on {_text(config.dataset.name)} with {_text(noise)} on the input "
        f"embeddings while training; {_KINDS[kind]}. No noise acts when the model is used."
    )


def _settings(config: Config) -> list[tuple[str, str]]:
    train, noise = config.train, config.noise
    length = f"{train.max_steps} steps" if train.max_steps is not None else f"{train.epochs:g} epochs"
    rows = [
        ("base model", f"{config.model.hub_id or config.model.name} {config.model.revision or ''}"),
        ("data", f"{config.dataset.name} {PurePath(config.dataset.path).name if config.dataset.path else ''}"),
        ("prompt", config.dataset.prompt),
        ("longest example", f"{config.dataset.max_length} tokens"),
        (
            "noise",
            f"{noise.method}, {noise.distribution}, pair {noise.pair}, scale {noise.scale}, length {noise.length}",
        ),
        ("alpha", f"{config.alpha:g}"),
        ("method", train.method),
        ("optimiser", f"{train.optimizer} {train.optimizer_options or ''}"),
        ("learning rate", f"{train.lr:g}, {train.scheduler}, warm-up {train.warmup_ratio:g}"),
        ("weight decay; gradient norm", f"{train.weight_decay:g}; {train.max_grad_norm:g}"),
        ("length; effective batch", f"{length}; {train.batch_size} examples"),
        ("precision", f"{train.precision}, weights {config.model.dtype}"),
        ("seed", str(config.seed)),
    ]
    if train.method != "full":
        rows.append(("LoRA", f"rank {train.lora.rank}, alpha {train.lora.alpha:g}, on {', '.join(train.lora.targets)}"))
    if train.freeze:
        rows.append(("frozen", ", ".join(train.freeze)))
    return rows


def _results(summary: dict[str, Any]) -> list[tuple[str, str]]:
    shown = ("train/loss", "heldout/", "generate/", "judge/", "probe/")
    return [
        (key, f"{value:.4g}" if isinstance(value, int | float) else "-")
        for key, value in sorted(summary["final"].items())
        if key.startswith(shown)
    ]


def _provenance(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    git, versions = provenance.get("git") or {}, provenance.get("versions") or {}
    words = as_typed([str(word) for word in provenance.get("command") or [""]])
    command = " ".join(re.sub(r"/\S*/", "", word) for word in words)  # files by name alone: a path tells of a machine
    rows = [
        ("commit", f"{git.get('commit', 'unknown')}{' with changes' if git.get('changed') or git.get('diff') else ''}"),
        ("command", command),
    ]
    return [*rows, *((name, str(versions[name])) for name in ("torch", "transformers", "peft") if name in versions)]


def _table(rows: list[tuple[str, str]]) -> str:
    head, *body = (f"| {_text(left)} | {_text(right)} |" for left, right in rows)
    return "\n".join([head, "|---|---|", *body])


def _text(value: Any) -> str:
    """Text for Markdown and the HTML it becomes: no tags, no table or line breaks, no links, no code."""
    flat = re.sub(r"\s+", " ", str(value)).strip()
    return re.sub(r"([|`\[\]*\\!])", r"\\\1", html.escape(flat, quote=False))
