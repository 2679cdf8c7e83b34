"""What `harness doctor` reports on services: the Hub, the tracker, the judge, vLLM."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.commands.doctor import Finding

_SECONDS = 3.0  # for any answer
_HUB, _WANDB = "https://huggingface.co", "https://api.wandb.ai"


def hub(config: Any, network: bool) -> Iterator[Finding]:
    """Whether the settings need the Hub, and what is available for it."""
    needed = [f"{key}.hub_id" for key in ("model", "dataset") if _from_hub(getattr(config, key))]
    try:
        from huggingface_hub import get_token

        logged_in = "logged in" if get_token() else "not logged in (gated models need: hf auth login)"
    except ImportError:
        logged_in = "huggingface_hub is not installed"
    offline = config.offline or os.environ.get("HF_HUB_OFFLINE") == "1"
    if not needed:
        yield Finding("ok", "hub", f"these settings fetch nothing; {logged_in}")
    elif offline:
        advice = "only what is in its cache can be used"
        yield Finding("warn", "hub", f"{', '.join(needed)} with offline=true or HF_HUB_OFFLINE", advice)
    elif network:
        yield _reached("hub", os.environ.get("HF_ENDPOINT", _HUB), logged_in)
    else:
        yield Finding("ok", "hub", f"{', '.join(needed)} will be fetched; {logged_in}")


def tracker(config: Any, network: bool) -> Iterator[Finding]:
    """Whether runs can be tracked as `tracking` asks."""
    tracking = config.tracking
    if tracking.mode == "disabled":
        yield Finding("ok", "tracking", "disabled: runs are on disk alone")
        return
    package = "mlflow" if tracking.kind == "mlflow" else tracking.kind
    if find_spec(package) is None:
        yield Finding("fail", "tracking", f"{package} is not installed", f"pip install 'noise-harness[{package}]'")
    elif tracking.mode == "offline" or tracking.kind != "wandb":
        yield Finding("ok", "tracking", f"{tracking.kind}, {tracking.mode}")
    elif not _wandb_key():
        yield Finding("fail", "tracking", "wandb, online, without a key", "wandb login, or tracking=offline")
    elif network:
        yield _reached("tracking", os.environ.get("WANDB_BASE_URL", _WANDB), "wandb, online, a key is there")
    else:
        yield Finding("ok", "tracking", "wandb, online, a key is there")


def judge(config: Any, network: bool) -> Iterator[Finding]:
    """Whether the judge exists, has what it needs, and responds."""
    from harness.judge.ended import refuse_ended
    from harness.judge.judges.registry import check_judge

    settings = config.judge
    try:
        ends = refuse_ended(settings)
        check_judge(settings)
    except (ValueError, OSError) as error:
        yield Finding("fail", "judge", str(error))
        return
    if ends:
        yield Finding("warn", "judge", ends)
    url = settings.base_url if settings.kind in ("openai", "alpaca_eval") else None
    if url is None:
        yield Finding("ok", "judge", f"{settings.name} ({settings.kind})")
    elif network or _is_here(url):
        yield _answers(settings, url)
    else:
        yield Finding("ok", "judge", f"{settings.name}: {_host(url)}, not asked", "--network asks it")


def vllm(config: Any, network: bool) -> Iterator[Finding]:
    """Whether the generation backend is available."""
    del network
    from harness.generate.checks import check_backend

    backend = config.generate.backend
    try:
        check_backend(config)
    except (ValueError, OSError) as error:
        yield Finding("fail", "generate", str(error))
        return
    there = "installed" if find_spec("vllm") else "not installed"
    needed = "" if backend == "vllm" else f", and generate.backend={backend} does not need it"
    yield Finding("ok", "generate", f"backend {backend}; vLLM {there}{needed}")


def _from_hub(section: Any) -> bool:
    return section.hub_id is not None and section.path is None


def _wandb_key() -> bool:
    """Whether W&B's client would find a key: in its variables, or in the file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    given = os.environ.get("NETRC")
    places = [Path(given)] if given else [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]
    host = urlsplit(os.environ.get("WANDB_BASE_URL", _WANDB)).hostname or ""
    try:
        return any(netrc(path).authenticators(host) is not None for path in places if path.is_file())
    except (NetrcParseError, OSError):
        return False


def _reached(what: str, url: str, beside: str) -> Finding:
    """Whether a connection can be opened; nothing is sent."""
    host = _host(url)
    name, _, port = host.rpartition(":")
    try:
        socket.create_connection((name.strip("[]"), int(port)), timeout=_SECONDS).close()
    except OSError as error:
        return Finding("fail", what, f"{host} cannot be reached ({error})", "check the network, or work offline")
    return Finding("ok", what, f"{host} can be reached; {beside}")


def _answers(settings: Any, url: str) -> Finding:
    """Ask an endpoint which models it serves, the cheapest sign of life. The key is sent only to it."""
    import httpx

    key = os.environ.get(settings.api_key_env or "", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.get(f"{url.rstrip('/')}/models", headers=headers, timeout=_SECONDS, follow_redirects=False)
    except httpx.HTTPError as error:
        advice = "start the server, or choose another judge"
        return Finding(
            "fail", "judge", f"{settings.name}: {_host(url)} does not answer ({type(error).__name__})", advice
        )
    if reply.status_code in (401, 403):
        return Finding("fail", "judge", f"{settings.name}: {_host(url)} refuses the key", f"see {settings.api_key_env}")
    if reply.status_code != 200:
        said = f"{settings.name}: {_host(url)} is alive; its list of models: status {reply.status_code}"
        return Finding("warn", "judge", said, "what it serves is not known")
    try:
        served = [str(model["id"]) for model in reply.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return Finding("warn", "judge", f"{settings.name}: {_host(url)} answers, but not as OpenAI's API does")
    if settings.model and settings.model not in served:
        few = ", ".join(served[:5])
        return Finding("fail", "judge", f"{_host(url)} does not serve {settings.model}", f"it serves {few}")
    return Finding("ok", "judge", f"{settings.name}: {settings.model} at {_host(url)} is alive")


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
