"""Keeping keys and tokens out of everything that is written or printed."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
# Names under which a request's settings hold a key, whatever it looks like.
_SECRET_SETTING = re.compile(
    r"^(x-)?(api[_-]?key|apikey|authorization|auth|bearer|(access|auth|api|secret|private|session|hf|hub)[_-]?(key|token)"
    r"|token|secret|client[_-]?secret|password|passwd|credentials?|cookie)$",
    re.IGNORECASE,
)
_SECRET_SETTING_IN_JSON = re.compile(r'"' + _SECRET_SETTING.pattern[1:-1] + r'":', re.IGNORECASE)
# Forms in which keys are recognised anywhere: OpenAI and others, Hugging Face, GitHub, GitLab, AWS, Google,
# Slack, Stripe, Groq, xAI, Replicate, PyPI, npm; JSON web tokens and private keys.
_KNOWN = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|gl(?:pat|rt|dt|ptt)-[A-Za-z0-9_-]{20,}|A(?:KI|SI)A[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}"
    r"|GOCSPX-[A-Za-z0-9_-]{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}|[sr]k_(?:live|test)_\w{16,}"
    r"|gsk_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{20,}|pypi-[A-Za-z0-9_-]{40,}|npm_[A-Za-z0-9]{30,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})"
    r"|(?<=hooks\.slack\.com/services/)[A-Za-z0-9/]{20,}"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/-]{16,}=*|(?<=[Bb]asic )[A-Za-z0-9+/]{16,}=*",
    re.DOTALL,
)
# user:password@ in a URL; the password is removed.
_IN_URL = re.compile(r"(?<=://)([^\s/:@\"']*):([^\s/@\"']+)@")
_IN_QUERY = re.compile(
    r"([?&](?:api[_-]?key|apikey|key|token|access[_-]?token|auth|sig|signature|password)=)[^&\s\"'#]{6,}", re.IGNORECASE
)
# password = '...' and the like; expressions of the program (os.environ[...], None) have no quotes.
_ASSIGNED = re.compile(
    r"""((?:pass(?:word|wd|phrase)|pwd|secret|credentials?|(?:api|access|secret|private|auth)[_-]?key|[a-z_-]*token)["']?
    \s*(?:=|:|=>)\s*)(["'])(?!\[)((?:\\.|(?!\2)[^\\\r\n]){4,})\2""",
    re.IGNORECASE | re.VERBOSE,
)
_SHORTEST = 12  # keys are longer, and words of the settings shorter
_SHORTEST_KNOWN = 6  # of a value that a judge was given as its key
_known_values: dict[str, str] = {}

# Files whose changes are not recorded, as git pathspecs.
SECRET_FILES = [
    f":(exclude,glob,icase)**/{pattern}"
    for pattern in (
        *(".env", ".env.*", ".netrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "id_rsa*", "id_ed25519*"),
        *("*.secret*", "*secrets.y*ml", "*secrets.json", "*credential*", "*.token", "*api_key*", "*apikey*", ".pypirc"),
    )
]


def know_secret(name: str, value: str) -> None:
    """Redact this value from now on, whatever the name of the variable that holds it."""
    if len(value) >= _SHORTEST_KNOWN:
        _known_values[name] = value


def redact(text: str) -> str:
    """The text with secrets of the environment replaced by their names, and what looks like a key by [secret]."""
    if not text:  # as most verdicts have it: the environment is not searched a thousand times
        return text
    for name, value in _of_environment().items():
        for form in _forms(value):
            text = text.replace(form, f"[{name}]")
    return _IN_QUERY.sub(r"\1[secret]", _IN_URL.sub(r"\1:[secret]@", _KNOWN.sub("[secret]", text)))


def redact_code(text: str) -> str:
    """`redact`, plus quoted values of anything named password, key or token: for source code and diffs."""
    return _ASSIGNED.sub(r"\1\2[secret]\2", redact(text))


def refuse_secrets(settings: Mapping[str, Any]) -> None:
    """Refuse settings that contain a key: they are written to config.yaml, W&B and the list of processes.

    Raises:
        ValueError: names the setting, not its value.
    """
    text = json.dumps(settings, ensure_ascii=False)
    # One search over all values, because a sweep has thousands.
    if redact(text) != text or _SECRET_SETTING_IN_JSON.search(text):
        _find_secret(settings, "")


def _find_secret(value: Any, where: str, name: str = "") -> None:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _find_secret(entry, f"{where}.{key}" if where else str(key), str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, entry in enumerate(value):
            _find_secret(entry, f"{where}[{number}]", name)
    elif isinstance(value, str) and value and (redact(value) != value or _SECRET_SETTING.match(name)):
        raise ValueError(
            f"{where}: its value is a key or token; put it into an environment variable "
            "(judge.api_key_env names the one that the judge reads)"
        )


@cache
def _forms(value: str) -> tuple[str, ...]:
    """A secret as it appears in text, in JSON, in Python's repr and in a URL, longest first."""
    forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    forms |= {urllib.parse.quote(value, safe=""), urllib.parse.quote(value), urllib.parse.quote_plus(value)}
    return tuple(sorted(forms, key=lambda form: -len(form)))


def _of_environment() -> dict[str, str]:
    """Values of variables named like secrets, longest first so that none is cut by another."""
    found = {name: value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST}
    return dict(sorted((_known_values | found).items(), key=lambda item: -len(item[1])))
