"""Whose answers a run is judged against: the evaluation set's, a file's, or another run's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.config import Config, parse
from harness.context import Job
from harness.data import EvalItem
from harness.judge.annotations import Row, pair_outputs, read_model_outputs
from harness.record import RunFolder, read_settings
from harness.record.files import read_text
from harness.record.identity import stage_fingerprint

REFERENCE = "reference"
NONE_SAME_SEED = "none_same_seed"


def baseline_rows(job: Job, items: Sequence[EvalItem], outputs: Sequence[Row]) -> list[Row]:
    """Rows to be judged, in the order of the items: output_1 the baseline's, output_2 the model's answer.

    Raises:
        ValueError: the outputs or the baseline answer other instructions than those of the evaluation set, or the
        baseline
            is missing or not finished.
    """
    asked = _asked(items)
    reference = asked if job.config.judge.baseline == REFERENCE else _answers_of(job, asked)
    rows, report = pair_outputs(outputs, reference)
    if not report.complete:
        raise ValueError("model_outputs.json answers other instructions than eval_set's: " + report.describe("outputs"))
    return rows


def check_baseline(job: Job, items: Sequence[EvalItem], done_by_then: Sequence[Job] = ()) -> list[str]:
    """Refuse, before a run starts, a baseline that will not exist when it is judged.

    Args:
        job: the run.
        items: its instructions.
        done_by_then: the run itself, and those that the same command does before it.

    Returns:
        Who gave the baseline's answer to each item; empty for a run that is still to be done.

    Raises:
        ValueError: as `baseline_rows`.
    """
    name = job.config.judge.baseline
    if any(_is_baseline(name, job.config, each) for each in done_by_then):
        return []
    rows = _asked(items) if name == REFERENCE else _answers_of(job, _asked(items))
    return [str(row["generator"]) for row in rows]


def answers_of_baseline(config: Config) -> str:
    """The setting that names the baseline's answers, for messages."""
    if config.judge.baseline != REFERENCE:
        return f"judge.baseline={config.judge.baseline}"
    return f"eval_set.path={config.eval_set.path}" if config.eval_set.path else f"eval_set={config.eval_set.name}"


def _is_baseline(name: str, config: Config, job: Job) -> bool:
    """Whether a run that is still to be done is the one that judge.baseline names."""
    other = job.config
    if other.output_dir != config.output_dir or "generate" not in other.stages:
        return False
    if name != NONE_SAME_SEED:
        return job.run_id == name
    alike = all(
        getattr(other, key) == getattr(config, key) for key in ("seed", "model", "dataset", "train", "eval_set")
    )
    return alike and other.noise.distribution == "none" and other.generate == config.generate


def _asked(items: Sequence[EvalItem]) -> list[Row]:
    return [
        {"instruction": item.text, "dataset": item.family, "output": item.reference, "generator": item.generator}
        for item in items
    ]


def _answers_of(job: Job, asked: Sequence[Row]) -> list[Row]:
    path = baseline_file(job)
    rows, report = pair_outputs(read_model_outputs(path), asked)
    if report.only_right:
        raise ValueError(f"judge.baseline: {path} does not answer every instruction: " + report.describe("baseline"))
    return [
        {
            "instruction": row["instruction"],
            "dataset": row["dataset"],
            "output": row["output_2"],
            "generator": row["generator_2"],
        }
        for row in rows
    ]


def baseline_file(job: Job) -> Path:
    """The file of outputs that judge.baseline names.

    Raises:
        ValueError: there is no such run or file, or the run has not finished generating.
    """
    name, root = job.config.judge.baseline, job.folder.path.parent
    if name == NONE_SAME_SEED:
        return _outputs_of(_run_without_noise(job, root), name)
    if (root / name / "config.yaml").is_file():
        return _outputs_of(root / name, name)
    path = Path(name).expanduser()
    if path.is_file():
        return path
    raise ValueError(
        f"judge.baseline={name}: expected {REFERENCE}, {NONE_SAME_SEED}, a run in {root}, or a file of outputs"
    )


def _outputs_of(folder: Path, name: str) -> Path:
    generated = RunFolder(folder).stages().get("generate", {})
    if not generated:
        raise ValueError(f"judge.baseline={name}: the run {folder.name} has not finished generating; run it first")
    return folder / "model_outputs.json"


def _run_without_noise(job: Job, root: Path) -> Path:
    """The run without noise whose settings otherwise equal ours."""
    config, wanted = job.config, job.fingerprints["generate"]
    for path in sorted(root.glob("*/config.yaml")):
        if _fingerprint_with_our_noise(path, config) == wanted:
            return path.parent
    raise ValueError(
        f"judge.baseline={NONE_SAME_SEED}: no run in {root} has noise=none, seed={config.seed} and otherwise the same "
        "settings; run it first"
    )


def _fingerprint_with_our_noise(path: Path, config: Config) -> str | None:
    """None for a run with noise, or one that cannot be shown to be equal: unreadable, or its data are gone."""
    try:
        if "distribution: none" not in read_text(path):
            return None  # saves the time to parse it
        theirs = parse(read_settings(path))
        if theirs.noise.distribution != "none":
            return None
        return stage_fingerprint(theirs.model_copy(update={"noise": config.noise, "alpha": config.alpha}), "generate")
    except (ValueError, OSError):
        return None
