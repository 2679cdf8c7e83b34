"""Exported models: they load with the libraries alone, and their card says what the run did."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from support.commands import SMALL
from support.runs import folder_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.config import Config
from harness.export import export
from harness.export.card import details, model_card
from harness.export.folder import push
from harness.models.load import load_trained

LORA = [*SMALL, "train.method=lora", "train.lora.rank=4", "train.lr=0.01"]


def front_matter(path) -> dict:
    _, matter, _ = path.read_text().split("---\n", 2)
    return yaml.safe_load(matter)


@pytest.fixture
def lora_run(compose, finished):
    config = compose(*LORA, "noise=symnoise")
    [summary] = finished(config)
    return config, folder_of(config).path, summary


def test_a_merged_adapter_is_a_plain_model_with_the_same_logits(lora_run, tmp_path):
    config, run, _ = lora_run
    export(run, tmp_path / "merged", merge=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = AutoTokenizer.from_pretrained(tmp_path / "merged")("Name a colour.", return_tensors="pt").input_ids
    with torch.no_grad():
        expected = load_trained(config.model, config.seed, run / "model").eval()(ids).logits
        torch.testing.assert_close(merged.eval()(ids).logits, expected, rtol=1e-5, atol=1e-5)
    assert {path.suffix for path in (tmp_path / "merged").iterdir()} <= {".safetensors", ".json", ".md", ".jinja"}


def test_an_adapter_names_its_base_without_a_path_of_this_machine(lora_run, tmp_path):
    _, run, summary = lora_run
    export(run, tmp_path / "adapter", licence="apache-2.0")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "tiny"
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert str(tmp_path) not in card
    matter = front_matter(tmp_path / "adapter" / "README.md")
    assert (matter["library_name"], matter["base_model"], matter["license"]) == ("peft", "tiny", "apache-2.0")
    values = {
        metric["type"]: metric["value"] for each in matter["model-index"][0]["results"] for metric in each["metrics"]
    }
    assert values["judge_win_rate"] == summary["final"]["judge/win_rate"]
    assert (matter["base_model_relation"], matter.get("datasets")) == ("adapter", None)
    for text in (
        "symnoise",
        "x + e and x - e",
        "e = alpha / sqrt(L d) b, alpha = 5",
        "| win rate, % | ",
        summary["run_id"],
    ):
        assert text in card
    assert len(card.split("---\n", 2)[2].splitlines()) < 40
    more = (tmp_path / "adapter" / "DETAILS.md").read_text()
    for text in ("| alpha | 5 |", "rank 4, alpha 32, on all-linear", "pair antithetic", "| judge/win\\_rate |"):
        assert text.replace("\\_", "_") in more
    assert json.loads((tmp_path / "adapter" / "figures.json").read_text()) == summary["final"]


def test_what_cannot_be_exported_is_named(compose, tmp_path, capsys, finished):
    config = compose(*SMALL)
    with pytest.raises(ValueError, match="not a finished run"):
        export(folder_of(config).path, tmp_path / "out")
    finished(config)
    with pytest.raises(ValueError, match="has whole weights already"):
        export(folder_of(config).path, tmp_path / "out", merge=True)
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="there: exists"):
        export(folder_of(config).path, tmp_path / "there")
    export(folder_of(config).path, tmp_path / "out")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.hidden_size == 32
    snippet = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(snippet.replace('"."', repr(str(tmp_path / "out"))), {})
    assert "Name three colours." in capsys.readouterr().out
    with pytest.raises(OSError, match="offline"):
        push(tmp_path / "out", "nobody/nothing")
    folder_of(config).remove_tree("model")
    with pytest.raises(ValueError, match="no weights in it"):
        export(folder_of(config).path, tmp_path / "again")


def test_nothing_in_a_card_is_markup(compose):
    plain = compose(*SMALL).model_dump(mode="json")
    plain["dataset"]["path"] = "/data/<script>alert(1)</script>|x\n# title.json"
    plain["model"]["revision"] = "`rm`: [a](b)\n---\nlicense: mit"
    config = Config.model_validate(plain)
    summary = {"run_id": "x", "judge": "<b>j</b>", "final": {"judge/win_rate": 1.0}}
    provenance = {"git": {"commit": "abc"}, "command": ["harness", "dataset.path=/home/me/secret/rows.json"]}
    card = model_card(config, summary, "full") + details(config, summary, provenance)
    _, matter, body = card.split("---\n", 2)
    assert yaml.safe_load(matter).get("license") is None
    assert "<script>" not in body
    assert "<b>" not in body
    assert "/home/me" not in body
    assert "\n# title" not in body
    assert "\\`rm\\`: \\[a\\](b) --- license: mit" in body
