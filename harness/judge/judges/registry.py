"""The judge that the settings name."""

from __future__ import annotations

import importlib
from pathlib import Path

from harness.config import JudgeConfig
from harness.judge.base import Judge
from harness.judge.ended import refuse_ended


def load_judge(config: JudgeConfig, checkable: bool, folder: Path) -> Judge:
    """Create the judge; models are loaded at its first verdict.

    Args:
        config: the checked settings.
        checkable: whether every instruction is a builtin task.
        folder: where a judge may keep its own files (the run folder).

    Raises:
        ValueError: a model, key or environment that it needs is missing.
    """
    # Imports are inside the branches: one judge's libraries need not be installed for another.
    if config.kind == "openai":
        from harness.judge.judges.openai import OpenAIJudge

        return OpenAIJudge(config)
    if config.kind == "alpaca_eval":
        from harness.judge.judges.alpaca_eval import AlpacaEvalJudge

        return AlpacaEvalJudge(config, folder)
    if config.kind == "local_lm":
        from harness.judge.judges.local_lm import LocalLMJudge

        return LocalLMJudge(config)
    if config.kind == "similarity":
        from harness.judge.judges.similarity import SimilarityJudge

        return SimilarityJudge(config)
    if config.kind == "reward":
        from harness.judge.judges.reward import RewardJudge

        return RewardJudge(config)
    if config.kind == "instructions":
        from harness.judge.judges.instructions import InstructionsJudge

        return InstructionsJudge()
    if config.kind == "python":
        return _of_the_user(config)
    from harness.judge.judges.reference import ReferenceJudge

    return ReferenceJudge(checkable)


def _of_the_user(config: JudgeConfig) -> Judge:
    assert config.target is not None
    module, _, name = config.target.partition(":")
    try:
        made: Judge = getattr(importlib.import_module(module), name)(config)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"judge.target={config.target}: {error}; the module must be on PYTHONPATH") from error
    missing = [part for part in ("identity", "orders", "free", "check_budget", "verdicts") if not hasattr(made, part)]
    if missing:
        raise ValueError(f"judge.target={config.target}: a judge needs {', '.join(missing)} (harness.judge.base.Judge)")
    return made


def check_judge_model(config: JudgeConfig) -> list[str]:
    """Refuse a judge that has ended or is not served; read tokenizer and config of one on this machine.

    These may be fetched from the Hub; weights come later.

    Returns:
        Lines to show: an end that is near, a server that is not up yet.

    Raises:
        ValueError: they are not available, or do not match the kind of judge.
    """
    notes = [refuse_ended(config)]
    if config.kind == "local_lm":
        from harness.judge.judges.local_lm import check_labels

        check_labels(config)
    elif config.kind == "reward":
        from harness.judge.judges.reward import check_reward

        check_reward(config)
    elif config.kind == "similarity":
        from harness.judge.judges.local_model import load_tokenizer

        load_tokenizer(config)
    elif config.kind == "openai":
        from harness.judge.judges.openai import check_served

        notes.append(check_served(config))
    return [note for note in notes if note]


def check_judge(config: JudgeConfig) -> None:
    """Check what can be known before a run starts: keys in the environment, packages, folders and files.

    Raises:
        ValueError: names what is missing. Whether an endpoint answers, only the first call shows.
    """
    load_judge(config, False, Path("."))
    for key, path in (("difficulty", config.difficulty), ("gamed", config.gamed)):
        if path is not None and not Path(path).is_file():
            raise ValueError(f"judge.{key}={path}: no such file")
