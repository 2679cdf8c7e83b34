"""What `harness data` shows, held against the documents and the noise of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.commands.data import lines, main, noised_tokens
from harness.commands.marks import Token, as_text, as_tokens, spans
from harness.config.compose import compose
from harness.data.batching import micro_batches
from harness.data.documents import load_documents
from harness.models.tokenizer import load_tokenizer
from harness.pipeline.plan import config_from
from harness.train.schedule import batch_at

REAL = Path(__file__).parents[3] / "shared" / "data" / "alpaca_999.json"
SMALL = ["model=tiny", "dataset.size=64", "dataset.heldout=8", "train.batch_size=8"]


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOISE_HARNESS_CACHE", str(tmp_path / "cache"))


def config(*overrides: str):
    return config_from(compose([*SMALL, *overrides]))


def text_of(shown: list[str], mark: str) -> str:
    """The texts with this mark, as they stood in the example."""
    found, inside = [], False
    for line in shown:
        if re.match(r"  \S|  {16}\S", line) and line[2:18].strip():
            inside = line[2:18].strip() == mark
        elif not line.startswith("  "):
            inside = False
        if inside:
            found.append(line[18:])
    return "".join(found).replace("\\n", "\n")


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_examples_are_the_runs_first_ones_token_for_token(layout):
    settings = config(f"train.layout={layout}", "noise=symnoise")
    data = load_documents(settings.dataset, settings.model)
    wanted = [data.train[place] for place in batch_at(0, len(data.train), 8, 0)[:3]]
    shown = list(lines(settings, 3))
    rows = [line for line in shown if line.startswith("row ")]
    assert len(rows) == (1 if layout == "packed" else 3)
    learnt = sum(int((each.labels != -100).sum()) for each in wanted)
    assert sum(int(re.search(r"(\d+) learnt", row)[1]) for row in rows) == learnt
    assert sum(int(re.search(r"(\d+) noised", row)[1]) for row in rows) == sum(map(len, wanted))
    longest_first = sorted(wanted, key=len, reverse=True)
    answers = "".join(f"{data.train_examples[each.index].output}<eos>" for each in longest_first)
    assert text_of(shown, "noised, learnt").replace(" ", "") == answers.replace(" ", "")
    assert all(data.train_examples[each.index].where in "".join(rows) for each in wanted)
    assert ("padding" in "".join(shown)) == (layout == "padded")


@pytest.mark.parametrize(("where", "mark"), [("response", "noised, learnt"), ("prompt", "noised"), ("all", "noised")])
def test_the_noise_falls_where_the_setting_says(where, mark):
    settings = config(f"noise.where={where}")
    data, tokenizer = load_documents(settings.dataset, settings.model), load_tokenizer(settings.model)
    [batch] = micro_batches(data.train[:2], layout="packed")
    noised, learnt = noised_tokens(settings, batch, tokenizer), batch.labels != -100
    wanted = {"response": learnt, "prompt": ~learnt, "all": learnt | ~learnt}[where]
    assert (noised == wanted).all()
    assert text_of(list(lines(settings, 2)), mark)


def test_without_noise_nothing_is_marked_noised():
    shown = list(lines(config("noise=none"), 2))
    assert "no noise" in "".join(shown)
    assert not any("noised" in line[:18] for line in shown)


def test_noise_on_padding_shows_on_padding():
    shown = list(lines(config("noise=neftune_hf"), 3))
    assert any(line.startswith("  padding, noised") for line in shown)


def test_a_line_for_each_token_with_its_id_and_form():
    settings = config()
    data, tokenizer = load_documents(settings.dataset, settings.model), load_tokenizer(settings.model)
    first = data.train[batch_at(0, len(data.train), 8, 0)[0]]
    shown = [line for line in lines(settings, 1, tokens=True) if line.startswith("  noised")]
    assert [int(line.split()[-2 - line.split()[-1].isspace()]) for line in shown][:1] == [first.input_ids[0]]
    assert len(shown) == len(first)
    assert tokenizer.convert_ids_to_tokens(int(first.input_ids[1])) in shown[1]


class _Tokenizer:
    def decode(self, ids, **_):
        return "".join(map(chr, ids))

    def convert_ids_to_tokens(self, number):
        return chr(number)


def test_control_characters_are_shown_and_colours_only_where_asked():
    row = [Token(ord(each), 0, learnt, False) for each, learnt in zip("a\x1b[31mb", [False] * 5 + [True], strict=False)]
    assert list(spans(row)) == [(0, 5), (5, 6)]
    assert next(iter(as_text(row, _Tokenizer(), colour=False))) == f"{'':18}a⟨U+001B⟩[31"
    plain, coloured = (list(as_text(row, _Tokenizer(), colour)) for colour in (False, True))
    assert "\033" not in "".join(plain)
    assert coloured[-1] == f"  {'learnt':<16}\033[32mm\033[0m"
    assert "⟨U+001B⟩" in list(as_tokens(row, _Tokenizer(), colour=False))[1]


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([{"instruction": "a", "output": 3}]), encoding="utf-8")
    for words, said in (
        (["n=0"], "n=0: a number of examples is 1 or more"),
        (["dataset=alpca"], "dataset/alpca"),
        ([*SMALL, "dataset.heldout=0", "--heldout"], "dataset.heldout=0: there are no held-out examples"),
        ([*SMALL, "dataset=alpaca", f"dataset.path={file}"], "mine.json: row 1: key 'output' must be text"),
    ):
        assert main(words, "harness data") == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert len(captured.err.splitlines()) == 1
        assert said in captured.err


@pytest.mark.skipif(not REAL.exists(), reason="the shared real data are not on this machine")
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_real_alpaca_rows_are_shown(capsys, layout):
    words = ["model=tiny", "dataset=alpaca", f"dataset.path={REAL}", f"train.layout={layout}", "n=2"]
    assert main(words, "harness data") == 0
    shown = capsys.readouterr().out
    assert "alpaca, 999 rows" in shown
    rows = {int(number) for number in re.findall(r"alpaca_999.json: row (\d+)", shown)}
    outputs = [row["output"] for row in json.loads(REAL.read_text(encoding="utf-8"))]
    assert len(rows) == 2
    answers = text_of(shown.splitlines(), "noised, learnt")
    assert all(outputs[row - 1][:40].split("\n")[0].strip() in answers for row in rows)
