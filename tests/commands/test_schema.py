"""The schema for editors: every YAML file of conf/ is valid by it, and what is wrong in one is found."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import yaml

from harness.commands.schema import WHOLE, groups, main, schema
from harness.config.paths import conf_dir

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with the extra notebooks")


@cache
def validator(group: str) -> Any:
    return jsonschema.Draft202012Validator(schema(group))


def errors(group: str, value: Any) -> list[str]:
    return [error.json_path for error in validator(group).iter_errors(value)]


def test_every_file_of_conf_is_valid():
    seen = 0
    for group in groups():
        folders = ["experiment", "hparams_search"] if group == WHOLE else [group]
        files = [path for name in folders for path in sorted((conf_dir() / name).glob("*.yaml"))]
        files += [conf_dir() / "config.yaml"] if group == WHOLE else []
        for path in files:
            assert errors(group, yaml.safe_load(path.read_text(encoding="utf-8"))) == [], path
            seen += 1
    assert seen > 80


@pytest.mark.parametrize(
    ("group", "value", "place"),
    [
        ("train", {"name": "mine", "lr": "fast"}, "$.lr"),
        ("train", {"name": "mine", "learning_rate": 1e-3}, "$"),
        ("noise", {"name": "mine", "pair": "twin"}, "$.pair"),
        (WHOLE, {"alpha": -1}, "$.alpha"),
        (WHOLE, {"train": {"batch_size": 0}}, "$.train"),
    ],
)
def test_a_mistake_is_found_where_it_is(group, value, place):
    assert errors(group, value) == [place]


def test_values_may_come_later():
    assert errors("train", {"name": "mine", "lr": "${alpha}", "epochs": "???"}) == []


def test_what_an_editor_shows_is_said_in_the_schema():
    lr = schema("train")["properties"]["micro_batch_tokens"]
    assert lr["description"].startswith("tokens per forward pass")
    assert lr["default"] == 2048


def test_a_folder_holds_every_group_and_what_vs_code_needs(tmp_path, capsys):
    assert main(["-o", str(tmp_path / "schema")], "harness schema") == 0
    shown = json.loads(capsys.readouterr().out)["yaml.schemas"]
    assert sorted(path.name for path in (tmp_path / "schema").iterdir()) == sorted(f"{name}.json" for name in groups())
    assert shown[str(tmp_path / "schema" / "noise.json")] == ["conf/noise/*.yaml"]
    assert json.loads((tmp_path / "schema" / "noise.json").read_text()) == schema("noise")
    with pytest.raises(ValueError, match="schema nose: no such group"):
        schema("nose")
