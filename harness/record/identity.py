"""The identity of a run: the same settings and data give the same run_id, on any machine and in any folder."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from harness.config import Config, GradientConfig
from harness.config import data as data_config
from harness.config.paths import canonical_json, module_file
from harness.noise.definition import is_own
from harness.record.content import path_fingerprint
from harness.record.no_result import NO_RESULT

_PREFIX = 89  # characters: with the hash a run_id has at most 100

# The sections that decide what the trained model is, what it answers, and how the answers are judged.
_TRAIN = ("model", "dataset", "noise", "alpha", "train", "seed")
_SECTIONS: dict[str, tuple[str, ...]] = {
    "train": _TRAIN,
    "generate": (*_TRAIN, "eval_set", "generate"),
    "judge": (*_TRAIN, "eval_set", "generate", "judge"),
    "probe": (*_TRAIN, "probe"),
}
# Files count by their content.
_FILES = {
    "model": ("path",),
    "dataset": ("path",),
    "eval_set": ("path", "answers"),
    "judge": ("difficulty", "gamed", "baseline", "model", "annotators_config", "target"),
}
# Keys that came later: at their defaults they are left out, so that runs made before keep their identity.
_LATER: dict[str, dict[str, object]] = {
    "generate": {"temperature": 0.0, "top_p": 1.0, "seed": 0, "samples": 1},
    "eval_set": {"format": "alpaca_eval", "hub_id": None, "revision": None, "hub_files": [], "answers": None},
    "judge": {"system": None, "score_scale": None},
    "probe": {"gradient": GradientConfig.model_validate({}).model_dump(mode="json")},
}
_MODELS_HERE = {"local_lm", "similarity", "reward", "python"}  # judges whose model may be a folder


def run_id(config: Config) -> str:
    """A readable prefix and a hash of everything that determines the run's outputs.

    Excluded: folders, launcher, tracking, experiment name, and the judge (a run keeps the verdicts of several judges).
    A path counts by its content.
    """
    return run_name(config, stage_fingerprint(config, "generate"))


def run_name(config: Config, generate_fingerprint: str) -> str:
    """The run_id for the settings, given the fingerprint of their stage `generate`."""
    alpha = f"-a{config.alpha:g}" if config.alpha else ""
    prefix = f"{config.model.name}-{config.dataset.name}-{config.noise.name}{alpha}-s{config.seed}"
    # W&B ends a run whose artifacts' names, "run-ID-probe_memorisation", pass 128 characters.
    return f"{prefix[:_PREFIX]}-{generate_fingerprint[:10]}"


def fingerprints(config: Config) -> dict[str, str]:
    """`stage_fingerprint` of every stage."""
    return {stage: stage_fingerprint(config, stage) for stage in _SECTIONS}


def stage_fingerprint(config: Config, stage: str) -> str:
    """SHA-256 of the settings that a stage's output depends on (hex)."""
    plain = config.model_dump(mode="json")
    kept = {name: plain[name] for name in _SECTIONS[stage]}
    for section, keys in NO_RESULT.items():
        if section in kept:
            kept[section] = {key: value for key, value in kept[section].items() if key not in keys}
    for section, defaults in _LATER.items():
        if section in kept:
            found = kept[section]
            kept[section] = {key: found[key] for key in found if key not in defaults or found[key] != defaults[key]}
    for section in ("dataset", "eval_set"):
        # Left out at 1, the first that was released with a version.
        if kept.get(section, {}).get("name") in data_config.GENERATED and data_config.GENERATED_VERSION > 1:
            kept[section]["version"] = data_config.GENERATED_VERSION
    if config.train.several and config.train.loss == "micro_batch_mean":
        # A mean of means depends on how the batch is cut.
        kept["train"] |= {key: plain["train"][key] for key in ("devices", "nodes")}
    for section, keys_of_files in _FILES.items():
        for key in keys_of_files if section in kept else ():
            if path := _file_of(config, section, key):
                found = _content(config, f"{section}.{key}", path)
                kept[section][key] = f"{kept[section][key]} {found}" if key == "target" else found
    if "probe" in kept and (tasks := config.probe.benchmarks.include_path):
        kept["probe"]["benchmarks"]["include_path"] = _content(config, "probe.benchmarks.include_path", tasks)
    if code := _own_code(config):
        kept["noise"]["code"] = {key: _content(config, key, path) for key, path in code.items()}
    elif "own" in kept["noise"]:
        del kept["noise"]["own"]  # so that runs without it keep their identity
    return hashlib.sha256(canonical_json(kept).encode()).hexdigest()


def file_fingerprints(config: Config) -> dict[str, str]:
    """Content of every file that the settings name, by its key: {"dataset.path": hash}."""
    named = ((section, key) for section, keys in _FILES.items() for key in keys)
    code = {key: _content(config, key, path) for key, path in _own_code(config).items()}
    return code | {
        f"{section}.{key}": _content(config, f"{section}.{key}", path)
        for section, key in named
        if (path := _file_of(config, section, key))
    }


def _own_code(config: Config) -> dict[str, str]:
    """Files of the user's own distribution and method: their code determines the result."""
    noise = config.noise
    targets = {"noise.distribution": noise.distribution if is_own(noise.distribution) else None}
    targets["noise.own.target"] = None if noise.own is None else noise.own.target
    return {key: str(module_file(target)) for key, target in targets.items() if target is not None}


def _content(config: Config, key: str, path: str) -> str:
    """Hash of the content at a path or, if it is gone, of what was there when the run was made (run_id=RUN)."""
    known = config.harness.files.get(key)
    if known is not None and not path.startswith("package:") and not Path(path).expanduser().exists():
        return known
    return path_fingerprint(path)


def _file_of(config: Config, section: str, key: str) -> str | None:
    """The path that a setting names, if it names one.

    Those of a judge may name a run, a model of a server or of the Hub, or an annotator of a package instead; the other
    paths must exist, and `path_fingerprint` says so.
    """
    value: str | None = getattr(getattr(config, section), key)
    if value is None or section != "judge":
        return value
    if key == "target":
        return _module_file(value.partition(":")[0])
    if key == "model":
        here = config.judge.kind in _MODELS_HERE
        return value if here and (value.startswith("package:") or Path(value).expanduser().is_dir()) else None
    path = Path(value).expanduser()
    return value if path.is_file() or (key == "annotators_config" and path.is_dir()) else None


def _module_file(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec and spec.origin and Path(spec.origin).is_file() else None
