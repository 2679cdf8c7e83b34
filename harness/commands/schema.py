"""`harness schema`: JSON Schema of conf/, so that an editor completes and checks the YAML as it is typed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WHOLE = "config"
# Hydra's own keys in a YAML file, which are not settings.
_HYDRA = {"defaults": {"type": "array"}, "hydra": {"type": "object"}}
# Placeholders for a value of any type: given on the command line, or taken from another key.
_LATER = {"type": "string", "pattern": r"^\?\?\?$|\$\{[^}]+\}"}


def main(words: Sequence[str], prog: str) -> int:
    """Print a schema, or write those of all groups into a folder and show the editor's settings."""
    parser = argparse.ArgumentParser(prog, description=__doc__)
    parser.add_argument(
        "group", nargs="?", default=WHOLE, help="a group of conf/ (model, noise ...); default: all keys"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write GROUP.json for every group")
    arguments = parser.parse_args(words)
    if arguments.output is None:
        print(json.dumps(schema(arguments.group), indent=1))
        return 0
    arguments.output.mkdir(parents=True, exist_ok=True)
    for group in groups():
        text = json.dumps(schema(group), indent=1) + "\n"
        (arguments.output / f"{group}.json").write_text(text, encoding="utf-8")
    print(f"wrote {arguments.output}: {', '.join(groups())}; for VS Code's settings.json:", file=sys.stderr)
    print(json.dumps({"yaml.schemas": _mapping(arguments.output)}, indent=1))
    return 0


def groups() -> list[str]:
    """The whole configuration, and every section that is a group of conf/."""
    from harness.config import Config

    sections = [name for name, info in Config.model_fields.items() if hasattr(info.annotation, "model_fields")]
    return [WHOLE, *(name for name in sections if name != "harness")]


def schema(group: str = WHOLE) -> dict[str, Any]:
    """JSON Schema (2020-12) of a file in conf/GROUP/, or of one with every key (config, experiments, local).

    Nothing is required, because a file need not be complete; every value may be ??? or ${another.key}. A group's
    file may also set keys of the whole configuration (with the line "# @package _global_", as the papers' recipes do).

    Raises:
        ValueError: there is no such group.
    """
    from harness.config import Config

    if group not in groups():
        raise ValueError(f"schema {group}: no such group; there are {', '.join(groups())}")
    found = Config.model_json_schema()
    for each in (found, *found["$defs"].values()):
        _loosen(each)
    found["properties"] |= _HYDRA
    found["properties"]["run_id"] = {"type": ["string", "null"], "description": "a run that is there already"}
    if group != WHOLE:
        section: Any = Config.model_fields[group].annotation
        found["properties"] |= found["$defs"][section.__name__]["properties"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": f"noise-harness: {group}"}


def _loosen(found: dict[str, Any]) -> None:
    found.pop("required", None)
    for key, value in (found.get("properties") or {}).items():
        told = {name: value.pop(name) for name in ("title", "description", "default") if name in value}
        found["properties"][key] = {**told, "anyOf": [value, _LATER]}


def _mapping(folder: Path) -> dict[str, list[str]]:
    whole = ["conf/config.yaml", "conf/experiment/*.yaml", "conf/hparams_search/*.yaml", "conf/local/*.yaml"]
    return {str(folder / f"{group}.json"): whole if group == WHOLE else [f"conf/{group}/*.yaml"] for group in groups()}
