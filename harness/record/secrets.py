"""Keeping keys and tokens out of everything that is written or printed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
# Forms by which keys are known wherever they come from: OpenAI and others, Hugging Face, GitHub, AWS, bearer headers.
_KNOWN = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[A-Z0-9]{16})"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/-]{16,}=*"
)
_SHORTEST = 12  # keys are longer, and words of the settings shorter

# Files whose changes are not recorded, as git pathspecs.
SECRET_FILES = [
    f":(exclude,glob,icase)**/{pattern}"
    for pattern in (
        *(".env", ".env.*", ".netrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "id_rsa*", "id_ed25519*"),
        *("*.secret*", "*secrets.y*ml", "*secrets.json", "*credential*", "*.token", "*api_key*", "*apikey*", ".pypirc"),
    )
]


def redact(text: str) -> str:
    """The text with every secret of the environment replaced by its name, and whatever looks like a key by [secret]."""
    for name, value in _of_environment().items():
        text = text.replace(value, f"[{name}]")
    return _KNOWN.sub("[secret]", text)


def refuse_secrets(settings: Mapping[str, Any]) -> None:
    """Refuse settings that hold a key: they are written to config.yaml, W&B and the list of processes.

    Raises:
        ValueError: names the setting, not its value.
    """
    text = json.dumps(settings, ensure_ascii=False)
    if redact(text) != text:  # one look at all of them, because a sweep has thousands
        _find_secret(settings, "")


def _find_secret(settings: Mapping[str, Any], where: str) -> None:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            _find_secret(value, f"{where}{key}.")
        elif redact(str(value)) != str(value):
            raise ValueError(
                f"{where}{key}: its value is a key or token; put it into an environment variable "
                "(judge.api_key_env names the one that the judge reads)"
            )


def _of_environment() -> dict[str, str]:
    """Values of variables named like secrets, longest first so that none is cut by another."""
    found = {name: value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST}
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))
