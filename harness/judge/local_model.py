"""Models on this machine, for the judges that need no endpoint: where they lie, which snapshot, and loading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.config import JudgeConfig
from harness.identity import path_fingerprint, resolve_path

_PACKAGE = "package:"


def source(config: JudgeConfig) -> str:
    """The folder, if judge.model names one, else the Hub id.

    Raises:
        ValueError: package:NAME/FOLDER is not installed, or a revision is given for a folder.
    """
    assert config.model is not None
    if config.model.startswith(_PACKAGE):
        return str(resolve_path(config.model))
    folder = Path(config.model).expanduser()
    if folder.is_dir() and config.revision is not None:
        raise ValueError(f"judge.revision={config.revision}: only of use with a Hub model, not with {folder}")
    return str(folder) if folder.is_dir() else config.model


def snapshot(config: JudgeConfig) -> str:
    """A folder's content, or Hub id and revision: what makes verdicts of this model its own."""
    found = source(config)
    if Path(found).is_dir():
        return f"{Path(found).name} {path_fingerprint(found)[:16]}"
    return f"{found}@{config.revision or 'main'}"


def load(auto_class: Any, config: JudgeConfig) -> tuple[Any, Any]:
    """Tokenizer and model in evaluation mode, on the GPU if there is one; safetensors only.

    Raises:
        ValueError: there is no such model here, and none could be fetched from the Hub.
    """
    import torch
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source(config), revision=config.revision)
        model = auto_class.from_pretrained(source(config), revision=config.revision, use_safetensors=True)
    except OSError as error:
        raise ValueError(
            f"judge.model={config.model}: not a folder, and not on the Hub as seen from here: {error}"
        ) from error
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def chat_ids(tokenizer: Any, messages: Sequence[dict[str, str]], reply_follows: bool) -> list[int]:
    """Token ids (L,) of a conversation by the tokenizer's own chat template."""
    return list(tokenizer.apply_chat_template(list(messages), add_generation_prompt=reply_follows, return_dict=False))


def fits(model: Any, ids: Sequence[int]) -> bool:
    """Whether the model has as many positions."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return positions is None or len(ids) <= positions
