"""Model folders that are damaged, incomplete or of another kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.hostile.attempt import Case
from benchmarks.hostile.contents import DAMAGES, Damage
from benchmarks.hostile.workplace import SMALL, Workplace

_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors")
_INDEX = "model.safetensors.index.json"
_OF_CHAT = ("null", "a list", "torn", "deep object", "not UTF-8", "a pipe", "missing")
_CONFIGS: dict[str, dict[str, object]] = {
    "more layers": {"num_hidden_layers": 3},
    "fewer layers": {"num_hidden_layers": 0},
    "another width": {"hidden_size": 64},
    "another vocabulary": {"vocab_size": 7},
    "an unknown kind": {"model_type": "nosuch"},
    "an encoder": {"model_type": "bert", "architectures": ["BertModel"]},
    "code of its own": {"auto_map": {"AutoModelForCausalLM": "evil.Model"}, "model_type": "evil"},
    "a kind that is a list": {"model_type": ["llama"]},
    "a width that is a text": {"hidden_size": "32"},
    "a width of null": {"hidden_size": None},
    "a type of weights": {"torch_dtype": "float7", "dtype": "float7"},
    "quantised": {"quantization_config": {"quant_method": "nosuch"}},
    "text_config a list": {"text_config": [1], "vocab_size": None},
}


def cases(place: Workplace, quick: bool) -> Iterator[Case]:
    """Each damage to each file of a model, and changes to its config.json, to the end of one step."""
    for file in _FILES:
        for name in DAMAGES:
            if quick and name not in ("null", "torn", "a pipe"):
                continue
            yield from _case(place, f"{file}: {name}", _damage(file, name))
            if name in _OF_CHAT:
                yield from _chat(place, file, name)
    for name, changes in _CONFIGS.items():
        yield from _case(place, name, _changed(changes))
    for text in ("[1]", '{"weight_map": {"a": "gone.safetensors"}}', '{"weight_map": [1]}', '{"weight_map": {"a": 3}}'):
        yield from _case(place, f"index {text}", _index(text))
    yield from _case(place, "pickled weights alone", _pickled)


def _case(place: Workplace, name: str, damage: Damage) -> Iterator[Case]:
    folder = place.root / "model"
    shutil.copytree(place.run / "model", folder)
    damage(folder)
    words = ["model=local", "model.path=model", "stages=[train]", "train.max_steps=1", "output_dir=trained"]
    plain = [word for word in SMALL if not word.startswith("model")]
    yield Case("model folder", name, ["harness", *plain, *words], place.root)
    shutil.rmtree(folder)


def _chat(place: Workplace, file: str, name: str) -> Iterator[Case]:
    """The same in a run's folder, for harness.chat."""
    run = place.root / "talked_to"
    shutil.copytree(place.run, run)
    DAMAGES[name](run / "model" / file)
    yield Case("model folder: harness.chat", f"{file}: {name}", ["harness.chat", "talked_to"], place.root)
    shutil.rmtree(run)


def _damage(file: str, name: str) -> Damage:
    return lambda folder: DAMAGES[name](folder / file)


def _changed(changes: dict[str, object]) -> Damage:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), encoding="utf-8")

    return change


def _index(text: str) -> Damage:
    def write(folder: Path) -> None:
        (folder / _INDEX).write_text(text, encoding="utf-8")

    return write


def _pickled(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
