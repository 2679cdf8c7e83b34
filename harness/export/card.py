"""The model card: what was trained, on what, with which noise, and the results; all of it generated."""

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
    "adapter": "a low-rank adapter, which needs its base model",
    "merged": "a low-rank adapter, merged into its base model's weights",
}


def model_card(config: Config, summary: dict[str, Any], kind: str, licence: str | None = None) -> str:
    """README.md in the Hub's form, one screen: YAML front matter (written by huggingface_hub) and text.

    Recipe, provenance and all numbers are in `details`.
    """
    rows = _table([("measure", "value"), *_shown_results(summary)])
    sections = [
        f"---\n{_front_matter(config, summary, kind, licence)}\n---",
        f"# {_text(summary['run_id'])}",
        _introduction(config, kind),
        _noise(config),
        f"{rows}\n\nJudge: {_text(summary.get('judge'))}; instructions: {_text(config.eval_set.name)}; intervals are "
        f"1.96 standard errors over the instructions of this one run (seed {config.seed}), not over seeds.",
        f"```python\n{_snippet(kind)}\n```",
        f"The chat template is the prompt of training ({_text(config.dataset.prompt)}), generation_config.json the "
        "decoding of the evaluation. Ask servers that ignore do_sample (vLLM) with temperature 0.",
        "A research model: its answers were not checked for truth or harm, and the licences of the base model and of "
        "the data apply. Recipe, provenance and all figures: DETAILS.md.",
    ]
    return "\n\n".join(sections) + "\n"


def details(config: Config, summary: dict[str, Any], provenance: dict[str, Any]) -> str:
    """DETAILS.md: the recipe, all numbers of the run, and its provenance."""
    sections = [
        f"# {_text(summary['run_id'])}: details",
        "## Training",
        _table([("setting", "value"), *_settings(config)]),
        "## Results",
        _table([("measure", "value"), *_results(summary)]),
        "## Provenance",
        _table([("what", "value"), *_provenance(provenance)]),
    ]
    return "\n\n".join(sections) + "\n"


_DRAWS = {
    "uniform": "uniform on [-1, 1)",
    "gaussian": "standard normal",
    "rademacher": "-1 or 1, each with probability 1/2",
}
_PAIRS = {
    "none": "x + e",
    "antithetic": "x + e and x - e, both trained on",
    "independent": "x + e and x + e', both trained on",
}


def _noise(config: Config) -> str:
    """What was done to the embeddings x during training, as a formula."""
    noise = config.noise
    if noise.distribution not in _DRAWS:
        return f"Noise while training: {_text(noise.distribution)} (DETAILS.md)."
    scale = "alpha / sqrt(L d)" if noise.scale == "raw" or noise.distribution == "uniform" else "alpha / sqrt(3 L d)"
    if noise.scale == "relative":
        scale += " m (m the mean norm of the document's token embeddings)"
    method = "" if noise.method == "noise" else f" (method {noise.method})"
    return (
        f"Embeddings x became {_PAIRS[noise.pair]}{method}, with e = {scale} b, alpha = {config.alpha:g}, d the width, "
        f"L the {_text(noise.length)} length, and each entry of b {_DRAWS[noise.distribution]}."
    )


def _shown_results(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers that people look for first, as far as the run has them."""
    final = summary["final"]
    rows = []
    for key, name, error in (
        ("judge/win_rate", "win rate, %", "judge/standard_error"),
        ("judge/length_controlled_winrate", "length-controlled win rate, %", "judge/lc_standard_error"),
        ("judge/accuracy", "accuracy, %", None),
        ("judge/partial_credit", "partial credit, %", None),
        ("eval/loss", "eval loss (held-out examples), nats per token", None),
        ("generate/characters", "length of an answer, characters", None),
    ):
        if isinstance(final.get(key), int | float):
            spread = final.get(error or "")
            interval = f" ± {1.96 * spread:.2g}" if isinstance(spread, int | float) else ""
            rows.append((name, f"{final[key]:.4g}{interval}"))
    return rows


def _snippet(kind: str) -> str:
    return (
        'FOLDER = "."  # or OWNER/NAME on the Hub\n'
        f"{_LOADING.get(kind, _LOADING['full'])}\n"
        "from transformers import AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
        'asked = tokenizer.apply_chat_template([{"role": "user", "content": "Name three colours."}],\n'
        '                                      add_generation_prompt=True, return_tensors="pt", return_dict=True)\n'
        "print(tokenizer.decode(model.generate(**asked)[0], skip_special_tokens=True))"
    )


def _front_matter(config: Config, summary: dict[str, Any], kind: str, licence: str | None) -> str:
    shown = {key: value for key, value in summary["final"].items() if key.startswith(("judge/", "eval/"))}
    results = [
        EvalResult("text-generation", config.eval_set.name, config.eval_set.name, key.replace("/", "_"), value)
        for key, value in sorted(shown.items())
        if isinstance(value, int | float)
    ]
    data = ModelCardData(
        base_model=config.model.hub_id or config.model.name,
        base_model_relation="adapter" if kind == "adapter" else "finetune",
        datasets=[config.dataset.hub_id] if config.dataset.hub_id else None,
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
        f"embeddings during training; {_KINDS[kind]}. No noise is added when the model is used."
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
    shown = ("train/loss", "eval/", "generate/", "judge/", "probe/")
    return [
        (key, f"{value:.4g}" if isinstance(value, int | float) else "-")
        for key, value in sorted(summary["final"].items())
        if key.startswith(shown)
    ]


def _provenance(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    git, versions = provenance.get("git") or {}, provenance.get("versions") or {}
    words = as_typed([str(word) for word in provenance.get("command") or [""]])
    command = " ".join(re.sub(r"/\S*/", "", word) for word in words)  # only file names: paths reveal the machine
    rows = [
        ("commit", f"{git.get('commit', 'unknown')}{' with changes' if git.get('changed') or git.get('diff') else ''}"),
        ("command", command),
    ]
    return [*rows, *((name, str(versions[name])) for name in ("torch", "transformers", "peft") if name in versions)]


def _table(rows: list[tuple[str, str]]) -> str:
    head, *body = (f"| {_text(left)} | {_text(right)} |" for left, right in rows)
    return "\n".join([head, "|---|---|", *body])


def _text(value: Any) -> str:
    """Escape text for Markdown and the HTML made from it: no tags, table or line breaks, links or code."""
    flat = re.sub(r"\s+", " ", str(value)).strip()
    return re.sub(r"([|`\[\]*\\!])", r"\\\1", html.escape(flat, quote=False))
