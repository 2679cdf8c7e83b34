"""Local models for judges without an endpoint: location, snapshot, and loading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.config import JudgeConfig
from harness.config.paths import resolve_path
from harness.data.chat_template import template_of
from harness.models.checks import reading
from harness.models.source import converted_gguf
from harness.record.content import path_fingerprint

_PACKAGE = "package:"
LOCAL_KINDS = ("local_lm", "similarity", "reward")  # kinds that `load` models


def source(config: JudgeConfig) -> str:
    """The folder, if judge.model names one or a GGUF file (converted once into the cache), else the Hub id.

    Raises:
        ValueError: package:NAME/FOLDER is not installed, or a revision is given for a folder.
    """
    assert config.model is not None
    folder = resolve_path(config.model) if config.model.startswith(_PACKAGE) else Path(config.model).expanduser()
    if folder.suffix == ".gguf" and folder.is_file():
        return str(converted_gguf(folder))
    if folder.is_dir() and config.revision is not None:
        raise ValueError(f"judge.revision={config.revision}: has no effect on {folder}, only on a Hub model")
    return str(folder) if folder.is_dir() else config.model


def snapshot(config: JudgeConfig) -> str:
    """A folder's content, or Hub id and revision: identifies the model in its verdicts."""
    found = source(config)
    if Path(found).is_dir():
        return f"{Path(found).name} {path_fingerprint(found)[:16]}"
    return f"{found}@{config.revision or 'main'}"


def whereabouts(config: JudgeConfig) -> str:
    """Where this judge computes, for the log."""
    if config.kind not in LOCAL_KINDS:
        return "no model in this process"
    from harness.models.place import computing_device, describe

    return describe(computing_device())


def load_tokenizer(config: JudgeConfig) -> Any:
    """The tokenizer of judge.model.

    Raises:
        ValueError: there is no such model here, and none could be fetched from the Hub.
    """
    from transformers import AutoTokenizer

    return _from_pretrained(AutoTokenizer, config)


def load_config(config: JudgeConfig) -> Any:
    """transformers' config of judge.model.

    Raises:
        ValueError: as `load_tokenizer`.
    """
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, config)


def load(auto_class: Any, config: JudgeConfig) -> tuple[Any, Any]:
    """Tokenizer and model in evaluation mode, on this process's device; safetensors only.

    Raises:
        ValueError: there is no such model here, and none could be fetched from the Hub.
    """
    from transformers.utils.logging import disable_progress_bar

    from harness.models.place import place

    disable_progress_bar()
    model = _from_pretrained(auto_class, config, use_safetensors=True)
    return load_tokenizer(config), place(model).eval()


def _from_pretrained(auto_class: Any, config: JudgeConfig, **options: Any) -> Any:
    found = source(config)
    where = "it cannot be read" if Path(found).is_dir() else "not a folder, and not on the Hub as seen from here"
    with reading(f"judge.model={config.model}: {where}"):
        return auto_class.from_pretrained(found, revision=config.revision, trust_remote_code=False, **options)


def chat_ids(tokenizer: Any, messages: Sequence[dict[str, str]], reply_follows: bool) -> list[int]:
    """Token ids (L,) of a conversation by the tokenizer's own chat template."""
    options = {"add_generation_prompt": reply_follows, "return_dict": False, "chat_template": template_of(tokenizer)}
    return list(tokenizer.apply_chat_template(list(messages), **options))


def fits(model: Any, ids: Sequence[int]) -> bool:
    """Whether the model has as many positions."""
    limit = positions(model)
    return limit is None or len(ids) <= limit


def positions(model: Any) -> int | None:
    """Tokens that a sequence may have; None: no limit.

    Models like RoBERTa count positions from the padding token's id plus one, so their table holds fewer positions than
    the config's max_position_embeddings (512 of 514).
    """
    limits = [limit for limit in (getattr(model.config, "max_position_embeddings", None),) if limit]
    for name, table in model.named_modules():
        if name.rsplit(".", 1)[-1] == "position_embeddings" and getattr(table, "padding_idx", None) is not None:
            limits.append(table.num_embeddings - table.padding_idx - 1)
    return min(limits, default=None)
