"""What a run's folder may not decide: it can come from anybody, and settings can run programs and send keys.

Judges that call a server, an interpreter or a module, task files and code of benchmarks, and custom noise must come
from the command line or the user's own conf. `harness.trust_run=true` says that the folder is the user's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.record.secrets import redact

_REACHING_KINDS = ("openai", "alpaca_eval", "python")
# Who is asked, where, with whose key, and which program is started for it.
_JUDGE = ("kind", "base_url", "api_key_env", "python", "target", "annotators_config", "model", "extra_body")
_BENCHMARKS = ("include_path", "run_code")


def refuse_foreign(run: str, stored: Mapping[str, Any], composed: Mapping[str, Any]) -> None:
    """Refuse settings that only the folder names.

    Args:
        run: the run_id as given.
        stored: the folder's settings, with those of the command applied.
        composed: those of the command, from its overrides and the user's conf.

    Raises:
        ValueError: names the keys, and how to confirm them.
    """
    foreign: dict[str, Any] = {}
    if "judge" in stored["stages"] and stored["judge"].get("kind", "reference") in _REACHING_KINDS:
        foreign |= _differing("judge", _JUDGE, stored["judge"], composed["judge"])
    if "probe" in stored["stages"]:
        theirs, ours = (settings["probe"].get("benchmarks") or {} for settings in (stored, composed))
        foreign |= _differing("probe.benchmarks", _BENCHMARKS, theirs, ours)
    theirs, ours = stored.get("noise") or {}, composed.get("noise") or {}
    if ":" in str(theirs.get("distribution")):
        foreign |= _differing("noise", ("distribution",), theirs, ours)
    foreign |= _differing("noise.own", ("target",), theirs.get("own") or {}, ours.get("own") or {})
    if foreign:
        named = ", ".join(f"{key}={value}" for key, value in foreign.items())
        raise ValueError(
            f"run_id={run}: only its config.yaml names {redact(named)}. A folder is not trusted where "
            "programs are run and keys are sent: give it on the command line (judge=NAME judge.KEY=VALUE ...), leave "
            "the stage out (stages=[...]), or confirm that the folder is yours with harness.trust_run=true"
        )


def _differing(
    section: str, keys: tuple[str, ...], theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> dict[str, Any]:
    return {f"{section}.{key}": theirs[key] for key in keys if theirs.get(key) and theirs[key] != ours.get(key)}
