"""Data files that are broken or have unexpected layouts, as training data and as evaluation set."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

from benchmarks.hostile.attempt import Case
from benchmarks.hostile.contents import DAMAGES, Damage, written
from benchmarks.hostile.workplace import SMALL, Workplace

_GOOD = {"instruction": "Say one.", "input": "", "output": "One."}
_Q, _A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
# The first row is good, so that the layout is known; the second is not.
_BAD_ROWS: dict[str, Any] = {
    "a row that is null": None,
    "a row that is a list": [1],
    "no output": {"instruction": "q"},
    "output null": {"instruction": "q", "output": None},
    "output a number": {"instruction": "q", "output": 3},
    "output a list": {"instruction": "q", "output": ["a"]},
    "output empty": {"instruction": "q", "output": ""},
    "instruction empty": {"instruction": "", "output": "a"},
    "half a character": {"instruction": "\ud800", "output": "\udfff"},
    "a NUL character": {"instruction": "a\0b", "output": "c\0d"},
    "a special token": {"instruction": "</s><s>", "output": "<|endoftext|></s>"},
    "2 MB of one word": {"instruction": "x" * (2 << 20), "output": "a"},
    "2 MB of an answer": {"instruction": "q", "output": "x " * (1 << 20)},
    "history a text": {**_GOOD, "history": "x"},
    "history of null": {**_GOOD, "history": [None]},
    "history of three": {**_GOOD, "history": [["a", "b", "c"]]},
    "system a number": {**_GOOD, "system": 3},
    "tools": {**_GOOD, "tools": [{"name": "f"}]},
}
_BAD_TALKS: dict[str, Any] = {
    "messages null": None,
    "messages a text": "x",
    "messages empty": [],
    "messages of null": [None],
    "messages of texts": ["q", "a"],
    "messages of lists": [["user", "q"]],
    "no content": [{"role": "user"}],
    "content null": [_Q, {"role": "assistant", "content": None}],
    "content of parts": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, _A],
    "an image": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, _A],
    "a role that is a number": [{"role": 1, "content": "q"}, _A],
    "a role that is unknown": [{"role": "robot", "content": "q"}, _A],
    "the answer first": [_A, _Q],
    "two questions": [_Q, _Q, _A],
    "no answer": [_Q],
    "weight of a text": [_Q, {**_A, "weight": "x"}],
    "a tool's answer": [_Q, {"role": "tool", "content": "42"}, _A],
    "4,000 turns": [_Q, _A] * 2000,
}


def _whole(rows: list[Any]) -> bytes:
    return json.dumps(rows).encode()


def _files() -> dict[str, Damage]:
    good = [{**_GOOD, "instruction": f"Say {n}."} for n in range(20)]
    talks = [{"messages": [{**_Q, "content": f"q{n}"}, _A]} for n in range(20)]
    contents: dict[str, bytes] = {
        **{name: _whole([*good, row]) for name, row in _BAD_ROWS.items()},
        **{name: _whole([*talks, {"messages": talk}]) for name, talk in _BAD_TALKS.items()},
        "JSON lines with a broken one": b"\n".join(json.dumps(row).encode() for row in good) + b"\n{]\n",
        "JSON lines with NULs": b"\n".join(json.dumps(row).encode() for row in good) + b"\n" + bytes(4096),
        "a key twice": b'[{"instruction": "q", "instruction": "p", "output": "a"}]',
        "a comma too many": b'[{"instruction": "q", "output": "a"},]',
        "CSV": b"instruction,output\nq,a\n",
        "a zip archive": b"PK\x03\x04" + bytes(100),
        "gzip": gzip.compress(_whole(good)),
        "gzip cut off": gzip.compress(_whole(good))[:-9],
        "gzip of null": gzip.compress(b"null"),
        "Parquet cut off": b"PAR1" + bytes(100),
        "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "a page of HTML": b"<!DOCTYPE html><html><body>404</body></html>",
        "a byte order mark": b"\xef\xbb\xbf" + _whole(good),
        "Latin-1": '[{"instruction": "Käse?", "output": "ja"}]'.encode("latin-1"),
        "20 MB in a line": _whole([{**_GOOD, "instruction": f"Say {n}.", "note": "x" * 1000} for n in range(20_000)]),
        "keys of other people": _whole([{"prompt": 1, "chosen": [1], "rejected": None}]),
        "one row": _whole(good[:1]),
        "all rows the same": _whole([_GOOD] * 40),
    }
    return {name: written(content) for name, content in contents.items()}


def cases(place: Workplace, quick: bool) -> Iterator[Case]:
    """Each file with `dataset=local`, to the end of a training step, and as eval_set.path."""
    path = place.root / "rows.json"
    words = ["harness", *(word for word in SMALL if not word.startswith("dataset.")), "output_dir=trained"]
    train = ["dataset=local", "dataset.path=rows.json", "dataset.heldout=0", "stages=[train]", "train.max_steps=1"]
    files = {**_files(), **DAMAGES}
    for number, (name, make) in enumerate(files.items()):
        if quick and number % 5:
            continue
        path.write_text("[]")
        make(path)
        yield Case("data file", name, [*words, *train], place.root)
        ask = [
            "harness",
            *place.settings,
            "eval_set=alpaca_eval",
            "eval_set.path=rows.json",
            "output_dir=trained",
            "harness.dry_run=true",
        ]
        yield Case("evaluation set", name, ask, place.root)
        scored = ["harness.judge", "score", f"runs/{place.run.name}/annotations.json", "--length-controlled"]
        tables = ["--difficulty", "rows.json", "--gamed", "rows.json"]
        yield Case("AlpacaEval's tables: harness.judge score", name, [*scored, *tables], place.root)
        DAMAGES["missing"](path)
