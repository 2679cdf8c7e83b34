"""Hostile command lines and broken configuration files."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.hostile.attempt import Case
from benchmarks.hostile.contents import DAMAGES
from benchmarks.hostile.workplace import SMALL, Workplace

# Command lines, separated by |; each is split as by a shell.
_TYPED = """
alpha=nan  |  alpha=inf  |  alpha=-1  |  alpha=[5]  |  alpha={a:1}  |  alpha=null  |  alpha=  |  "alpha='5"
alpha=1e999  |  seed=1.5  |  seed=-1  |  seed=99999999999999999999  |  seed=true  |  seed=[1]  |  seed=abc
lr=3  |  train.lrr=1  |  train.lr=1e999  |  train.lr=0  |  train.lr=-1  |  train.lr=nan  |  train.batch_size=0
train.max_steps=-3  |  train.max_steps=1e3  |  train.devices=99  |  train.devices=-1  |  train.nodes=0
train.method=none  |  train=null  |  noise=nosuch  |  noise=[none]  |  noise.distribution=os:system
noise.own={target: x}  |  noise.pair=3  |  noise=../x  |  model=nosuch  |  model.architecture=null
model.architecture.heads=3  |  model.architecture.hidden_size=-1  |  model.architecture.layers=99999999999
model.path=/dev/null  |  model.path=/dev/zero  |  model.path=''  |  model.path=/nowhere
model.hub_id=nobody/nothing  |  dataset.path=/dev/null  |  dataset.path=/dev/zero  |  dataset.path=/
dataset.size=0  |  dataset.size=99999999  |  dataset.heldout=99999  |  dataset.max_length=1
dataset.prompt=nosuch  |  dataset.prompt=chat_template  |  eval_set.limit=0  |  eval_set.path=/dev/zero
eval_set.path=/nowhere  |  generate.max_new_tokens=0  |  generate.max_length=1  |  generate.temperature=-1
judge=nosuch  |  judge.baseline=nosuch  |  judge.baseline=/dev/zero  |  judge.baseline=''  |  judge.kind=python
judge.target=os:system  |  judge=endpoint judge.base_url=notaurl  |  judge=endpoint judge.base_url=file:///etc
judge=endpoint judge.parse='('  |  judge=endpoint judge.labels=[A]  |  judge=endpoint judge.prompt=x
judge=endpoint judge.extra_body={api_key:sk-abcdefghijklmnopqrstuvwx}  |  judge=endpoint judge.timeout_s=0
stages=[]  |  stages=[nosuch]  |  stages=train  |  stages=[train,train]  |  stages=[judge]  |  stages=null
stages={}  |  output_dir=/dev/null/x  |  output_dir=/proc/x  |  output_dir=''  |  output_dir=/
output_dir=null  |  run_id=nosuch  |  run_id=..  |  run_id=/  |  run_id=''  |  run_id=/dev/zero
tracking=nosuch  |  tracking.mode=x  |  tracking.group=null  |  'tracking.group=a (b)'  |  experiment=nosuch
experiment=[a,b]  |  probe.examples=-1  |  harness.workers=0  |  harness.workers=x  |  harness=3  |  hydra=3
hydra.run.dir=/dev/null  |  +a=b  |  ++a.b.c=1  |  ~train  |  ~train.lr  |  a  |  =  |  ==  |  a=b=c  |  'a=[1,'
'a={'  |  'a=${b}'  |  'alpha=${seed'  |  'alpha=${oc.env:HOME}'  |  'a="'  |  --nosuch  |  -m  |  -c
--config-dir=/nowhere  |  --config-name=nosuch  |  alpha=1,2  |  'alpha=range(3)'  |  -m alpha=
-m alpha=1,,2  |  -m 'alpha=range(1,'  |  -m noise=none,nosuch  |  -m alpha=1,nan  |  -m seed=range(0,-1)
-m 'alpha=glob(*)'  |  -m 'seed=choice()'  |  'seed=choice(1'  |  ☃=1  |  alpha=☃  |  alpha=٣
"""
_FILES = {"broken YAML": "a: [1", "a list": "- 1\n", "deep": "[" * 50_000, "a text": "x", "a tab": "a:\n\tb: 1\n"}
_TAGS = {"a Python object": "alpha: !!python/object/apply:os.system [true]\n", "an anchor in itself": "a: &a [*a]\n"}
_VALUES = {"alpha a text": "alpha: x\n", "an unknown key": "nosuch: 1\n", "a number for a section": "train: 3\n"}


def _typed() -> list[str]:
    return [case.strip() for line in _TYPED.splitlines() for case in line.split("  |  ") if case.strip()]


def cases(place: Workplace, quick: bool) -> Iterator[Case]:
    """Each override in a dry run; each file in the user's own conf, as experiment, noise and train."""
    import shlex

    for number, typed in enumerate(_typed()):
        if not quick or number % 8 == 0:
            words = [*SMALL, *shlex.split(typed), "output_dir=planned", "harness.dry_run=true"]
            words = [word for word in words if not (word == "output_dir=planned" and "output_dir=" in typed)]
            yield Case("override", typed, ["harness", *words], place.root)
    yield Case("override", "half a character", ["harness", *SMALL, "model.name=\udc80"], place.root)
    yield Case("override", "200,000 characters", ["harness", *SMALL, f"tracking.group={'x' * 100_000}"], place.root)
    yield Case("override", "deep brackets", ["harness", *SMALL, f"stages={'[' * 5_000}"], place.root)
    files = {name: text.encode() for name, text in {**_FILES, **_TAGS, **_VALUES}.items()}
    for name, content in files.items():
        for group in ("experiment", "noise", "train"):
            path = place.root / "conf" / group / "hostile.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            head = b"# @package _global_\n" if group == "experiment" else b""
            path.write_bytes(head + content)
            words = ["--config-dir=conf", *SMALL, f"{group}=hostile", "harness.dry_run=true"]
            yield Case("configuration file", f"{group}: {name}", ["harness", *words], place.root)
            path.unlink()
    for name in ("empty", "null", "not UTF-8", "binary", "a pipe", "a folder", "an endless device"):
        path = place.root / "conf" / "noise" / "hostile.yaml"
        DAMAGES[name](path)
        words = ["--config-dir=conf", *SMALL, "noise=hostile", "harness.dry_run=true"]
        yield Case("configuration file", f"noise: {name}", ["harness", *words], place.root)
        DAMAGES["missing"](path)
