"""Run folders as the harness writes them, with numbers that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

NOISES: dict[str, dict[str, Any]] = {
    "none": {"distribution": "none"},
    "neftune": {"distribution": "uniform"},
    "gaussian": {"distribution": "gaussian"},
    "symnoise": {"distribution": "rademacher", "pair": "antithetic"},
}


def config_of(noise: str = "none", alpha: float = 5.0, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """A resolved config. Settings are dotted keys with a double underscore: train__lr=0.1, judge__name="gpt4"."""
    plain = {"distribution": "uniform", "scale": "raw", "pair": "none", "length": "true", "where": "all"}
    config: dict[str, Any] = {
        "model": {"name": "tiny", "hub_id": None},
        "dataset": {"name": "builtin", "path": None, "seed": 42},
        "eval_set": {"name": "builtin", "limit": None},
        "noise": {"name": noise, **plain, **NOISES.get(noise, {})},
        "train": {"name": "quick", "epochs": 2, "lr": 0.003, "budget": "equal_steps", "log_every": 10},
        "generate": {"name": "greedy", "max_new_tokens": 64},
        "judge": {"name": "reference", "kind": "reference"},
        "tracking": {
            "name": "disabled",
            "mode": "disabled",
            "project": "p",
            "entity": None,
            "group": "sweep",
        },
        "harness": {"dry_run": False, "run_id": None, "position": None},
        "alpha": 0.0 if noise == "none" else float(alpha),
        "seed": seed,
        "stages": ["train", "generate", "judge"],
        "output_dir": "runs",
        "experiment": None,
    }
    for key, value in settings.items():
        section, _, name = key.partition("__")
        if name:
            config[section][name] = value
        else:
            config[section] = value
    return config


def rows_of(
    preferences: Sequence[float | None], lengths: Sequence[int] | None = None, families: int = 8
) -> list[dict[str, Any]]:
    """Annotations for instructions "Question 0", "Question 1", ...; answers of `lengths` characters (default 10)."""
    lengths = lengths or [10] * len(preferences)
    return [
        {
            "instruction": f"Question {i}",
            "output_1": "r" * 8,
            "generator_1": "reference",
            "dataset": f"family{i % families}",
            "output_2": "m" * length,
            "generator_2": "model",
            "annotator": "reference:checker",
            "preference": preference,
        }
        for i, (preference, length) in enumerate(zip(preferences, lengths, strict=True))
    ]


def write_run(
    root: Path,
    config: Mapping[str, Any],
    final: Mapping[str, float | None] | None = None,
    preferences: Sequence[float | None] = (1.0, 1.5, 2.0, 1.0),
    lengths: Sequence[int] | None = None,
    history: Sequence[Mapping[str, Any]] = ({"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": None}),
    status: str = "finished",
    name: str | None = None,
) -> Path:
    """Write one run folder. Statuses: finished, diverged, failed, incomplete."""
    alpha = f"-a{config['alpha']:g}" if config["alpha"] else ""
    folder = root / (name or f"{config['model']['name']}-{config['noise']['name']}{alpha}-s{config['seed']}")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
    _json(folder / "stages.json", {} if status in ("incomplete", "failed") else _stages(config))
    if status == "incomplete":
        return folder
    if status == "failed":
        _json(folder / "failed", {"type": "ValueError", "message": "row 3 has no output"})
        return folder
    annotations = rows_of(preferences, lengths)
    keys = {
        "dataset": "dataset",
        "instruction": "instruction",
        "output": "output_2",
        "generator": "generator_2",
    }
    _json(folder / "model_outputs.json", [{ours: row[key] for ours, key in keys.items()} for row in annotations])
    _json(folder / "annotations.json", annotations)
    _json(
        folder / "summary.json",
        {"run_id": folder.name, "status": status, "final": _final(annotations, final)},
    )
    (folder / "done").write_text(f"{status}\n", encoding="utf-8")
    return folder


def _stages(config: Mapping[str, Any]) -> dict[str, Any]:
    entry = {"fingerprint": "f", "status": "finished", "finished_at": 0.0, "seconds": 1.0, "figures": {}}
    return dict.fromkeys(config["stages"], entry)


def _final(annotations: Sequence[Mapping[str, Any]], given: Mapping[str, float | None] | None) -> dict[str, Any]:
    known = [row["preference"] - 1 for row in annotations if row["preference"] is not None]
    mean_length = sum(len(row["output_2"]) for row in annotations) / len(annotations)
    return {
        "judge/win_rate": 100 * sum(known) / len(known),
        "generate/characters": mean_length,
        **(given or {}),
    }


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
