"""Puts a run folder into W&B as harness/tracking.py does, with the tables complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml


def log_run(folder: Path, root: Path) -> None:
    """One offline W&B run below root/wandb with what the run folder holds."""
    import wandb

    status = (folder / "done").read_text().strip() if (folder / "done").exists() else None
    run = wandb.init(
        id=folder.name,
        project="noise-harness",
        group="sweep",
        dir=str(root),
        mode="offline",
        config={"run": yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))},
        reinit="finish_previous",
        settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True),
    )
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        run.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])
    if (folder / "failed").exists():
        error = _read(folder / "failed")
        run.summary.update({"status": "failed", "reason": f"{error['type']}: {error['message']}"})
    if status:
        for name, value in _read(folder / "summary.json")["final"].items():
            run.summary[f"final/{name}"] = value
        run.summary["status"] = status
        tables = {"generations": "model_outputs.json", "annotations": "annotations.json"}
        run.log({name: _table(_read(folder / file)) for name, file in tables.items()})
    run.finish(exit_code=0 if status == "finished" else 1)


def _table(rows: list[dict[str, Any]]) -> Any:
    import wandb

    return wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
