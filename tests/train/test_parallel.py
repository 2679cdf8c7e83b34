"""Several processes train as one: who gets which document, and whole trainings on gloo against one process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from support.commands import SMALL, environment
from support.runs import folder_of
from support.tiny_models import random_documents

from harness.config import Config
from harness.data.batching import micro_batches
from harness.pipeline.plan import RunFailed
from harness.pipeline.runner import execute
from harness.system.nodes import cores
from harness.train.parallel import deal, share_of

TINY = [*SMALL, "model.architecture.layers=2", "train.micro_batch_tokens=300", "train.max_steps=4"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 20])
def test_every_document_is_dealt_once_and_the_load_is_even(ranks):
    documents = random_documents()
    shares = deal(documents, ranks)
    assert sorted(each.index for share in shares for each in share) == [each.index for each in documents]
    loads = [sum(map(len, share)) for share in shares]
    assert max(loads) - min(loads) <= max(map(len, documents))


@pytest.mark.parametrize("ranks", [1, 2, 3, 20])
def test_shares_make_the_effective_batch_with_as_many_passes_everywhere(ranks):
    documents = random_documents((9, 5, 7, 4))
    shares = [share_of(documents, rank, ranks, "packed", 12) for rank in range(ranks)]
    whole = micro_batches(documents, layout="packed")[0]
    assert {share.targets for share in shares} == {whole.n_targets}
    assert sum(batch.n_targets for share in shares for batch in share.batches) == whole.n_targets
    assert len({len(share.batches) for share in shares}) == 1
    real = [batch for share in shares for batch in share.batches if batch.n_targets]
    assert {share.micro_batches for share in shares} == {len(real)}
    assert sorted(document for batch in real for document in batch.documents) == sorted(
        each.index for each in documents
    )


def train(compose: Callable, tmp_path: Path, name: str, *overrides: str) -> Config:
    config = compose(*TINY, "stages=[train]", f"output_dir={tmp_path / name}", *overrides)
    execute(config)
    return config


def assert_same_training(ours: Config, theirs: Config, tolerance: float) -> None:
    """Curves and weights agree within a relative tolerance; float32 sums in another order."""
    rows, expected = (folder_of(config).metrics() for config in (ours, theirs))
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for key in ("train/loss", "train/grad_norm", "train/penalty"):
        assert [row[key] for row in rows] == pytest.approx([row[key] for row in expected], rel=tolerance, abs=1e-7), key
    for key in ("train/tokens", "train/documents", "train/rows", "train/learning_rate"):
        assert [row[key] for row in rows] == [row[key] for row in expected]
    summaries = [json.loads((folder_of(config) / "summary.json").read_text())["final"] for config in (ours, theirs)]
    assert summaries[0]["eval/loss"] == pytest.approx(summaries[1]["eval/loss"], rel=tolerance)
    weights, reference = (load_file(next((folder_of(each) / "model").glob("*.safetensors"))) for each in (ours, theirs))
    assert weights.keys() == reference.keys()
    for name, tensor in reference.items():
        assert (weights[name] - tensor).norm() <= 20 * tolerance * tensor.norm(), name


def test_one_process_trains_in_one_precision_after_another(compose, tmp_path):
    first, second, third = (
        train(compose, tmp_path, str(number), f"train.precision={precision}", "train.max_steps=1")
        for number, precision in enumerate(("fp32", "bf16", "fp32"))
    )
    losses = [folder_of(config).metrics()[0]["train/loss"] for config in (first, second, third)]
    assert losses[0] == losses[2] != losses[1]


def test_two_sharded_processes_train_as_one(compose, tmp_path):
    one = train(compose, tmp_path, "one", "noise=symnoise")
    two = train(compose, tmp_path, "two", "noise=symnoise", "train.devices=2", "train.sharding=fsdp")
    assert folder_of(one).path.name == folder_of(two).path.name
    assert_same_training(two, one, 1e-5)
    assert not (folder_of(two) / "ranks").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
@pytest.mark.parametrize(
    ("one", "several"),
    [
        ((), ("train.devices=2",)),
        ((), ("train.devices=3", "train.sharding=fsdp")),
        ((), ("train.devices=2", "train.sharding=fsdp", "train.cpu_offload=true")),
        (("train.layout=padded",), ("train.devices=2", "train.sharding=fsdp")),
        (("train.pair_mode=sequential",), ("train.devices=2", "train.sharding=fsdp")),
        (("model.gradient_checkpointing=true",), ("train.devices=2", "train.sharding=fsdp")),
        (("train.batch_size=2", "train.max_steps=3"), ("train.devices=3",)),
        (("train.batch_size=2", "train.max_steps=3"), ("train.devices=3", "train.sharding=fsdp")),
    ],
    ids=lambda value: " ".join(value),
)
def test_several_processes_train_as_one(compose, tmp_path, monkeypatch, one, several):
    monkeypatch.setattr("harness.system.nodes.cores", lambda: 4)  # three processes take turns on a machine with two
    alone = train(compose, tmp_path, "one", "noise=symnoise", *one)
    assert_same_training(train(compose, tmp_path, "several", "noise=symnoise", *one, *several), alone, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
@pytest.mark.parametrize("noise", ["neftune", "none", "neftune_x2", "r3f", "rdrop", "freelb", "vat", "smart", "sam"])
def test_every_method_trains_the_same_on_two_processes(compose, tmp_path, noise, sharding):
    alone = train(compose, tmp_path, "one", f"noise={noise}")
    both = train(compose, tmp_path, "two", f"noise={noise}", "train.devices=2", f"train.sharding={sharding}")
    # Adversarial directions are normalised gradients of small differences: they amplify rounding.
    assert_same_training(both, alone, 1e-3 if noise in ("vat", "smart", "freelb") else 2e-5)


@pytest.mark.parametrize("sharding", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_adapters_train_as_on_one_process(compose, tmp_path, sharding):
    """Adapters are sharded with their base, alone in the checkpoints and in model/, and load again to answer."""
    pytest.importorskip("peft")
    lora = ("noise=symnoise", "train.method=lora", "stages=[train,generate]", "generate.devices=1")
    alone = train(compose, tmp_path, "one", *lora)
    both = train(compose, tmp_path, "two", *lora, "train.devices=2", f"train.sharding={sharding}")
    # The second matrix starts at zero: Adam's first steps have the size of lr whatever the gradient, rounding included.
    assert_same_training(both, alone, 1e-4)
    files = [{path.name for path in (folder_of(config) / "model").glob("*.safetensors")} for config in (alone, both)]
    assert files == [{"adapter_model.safetensors"}] * 2
    answers = [(folder_of(config) / "model_outputs.json").read_text() for config in (alone, both)]
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_bf16_shards_train_as_bf16_on_one_process(compose, tmp_path):
    alone = train(compose, tmp_path, "one", "noise=symnoise", "train.precision=bf16")
    options = ("train.precision=bf16", "train.devices=2", "train.sharding=fsdp")
    # bfloat16 has 8 bits: sums in another order differ by 2^-8 of a term.
    assert_same_training(train(compose, tmp_path, "two", "noise=symnoise", *options), alone, 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        pytest.param(
            ("train.devices=3", "train.sharding=fsdp"),
            marks=pytest.mark.skipif(cores() < 3, reason="a command for three processes needs three cores"),
        ),
        ("train.devices=2",),
    ],
    ids=" ".join,
)
def test_a_training_goes_on_with_another_number_of_processes(compose, tmp_path, first):
    """Killed on several processes, finished on one and on two shards: the curve is that of one process throughout."""
    long = [*TINY, "train.max_steps=30", "noise=symnoise", "stages=[train]"]
    alone = compose(*long, f"output_dir={tmp_path / 'one'}")
    execute(alone)
    for number, then in enumerate([(), ("train.devices=2", "train.sharding=fsdp")]):
        place = tmp_path / f"several-{number}"
        process = start(place, *long, *first)
        wait_for(process, place, "checkpoints/step-*")
        stop(process)
        config = compose(*long, f"output_dir={place}", *then)
        execute(config)
        assert "checkpoint" not in (folder_of(config) / "log.txt").read_text()  # none was refused
        assert_same_training(config, alone, 1e-4)


def start(place: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "harness", *overrides, f"output_dir={place}", "tracking=disabled"]
    return subprocess.Popen(command, cwd=place.parent, env=environment(), stderr=subprocess.PIPE)


def wait_for(process: subprocess.Popen, place: Path, pattern: str) -> None:
    deadline = time.monotonic() + 200
    while not list(place.glob(f"*/{pattern}")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stop(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def ranks_of(place: Path) -> list[psutil.Process]:
    """Ranks that work on a folder below `place`, wherever their parents are."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if (
            "harness.pipeline.worker" in line
            and any(str(place) in word for word in line)
            and "torch.distributed.run" not in line
        ):
            found.append(process)
    return found


@pytest.mark.parametrize("victim", ["rank", "harness"])
def test_a_killed_process_takes_the_others_down_within_ten_seconds(tmp_path, victim):
    """Of a training that would go on for long: the kernel or torchrun ends what is left, and nothing is orphaned."""
    place = tmp_path / "runs"
    process = start(place, *TINY, "train.max_steps=100000", "train.devices=2", "stages=[train]")
    wait_for(process, place, "checkpoints/step-*")
    ranks = ranks_of(place)
    assert len(ranks) == 2
    (ranks[1] if victim == "rank" else process).send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(ranks, timeout=10)
    assert not alive
    message = process.communicate(timeout=20)[1].decode()
    assert not ranks_of(place)
    if victim == "rank":
        assert process.returncode == 1
        assert "a process of the stage train was killed" in message


@pytest.mark.slow
def test_two_nodes_train_as_one(compose, tmp_path, monkeypatch):
    """Two commands on this machine, told apart by NODE_RANK as on a cluster; only the first writes and goes on."""
    alone = train(compose, tmp_path, "one", "noise=symnoise")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    nodes = []
    for rank in (1, 0):  # the second comes first, to a folder that is not there yet
        monkeypatch.setenv("NODE_RANK", str(rank))
        options = ("noise=symnoise", "stages=[train]", "train.nodes=2", "train.sharding=fsdp")
        nodes.append(start(tmp_path / "two", *TINY, *options))
        if rank:
            wait_for(nodes[0], tmp_path / "two", ".ranks-1.lock")
    messages = [node.communicate(timeout=300)[1].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], messages
    two = compose(*TINY, f"output_dir={tmp_path / 'two'}", "stages=[train]", "noise=symnoise")
    assert_same_training(two, alone, 1e-5)


@pytest.mark.slow
def test_an_error_on_one_rank_is_reported_as_that_error(compose):
    config = compose(*TINY, "train.devices=2", "dataset.max_length=20", "stages=[train]")
    with pytest.raises(RunFailed, match=r"rank \d: ValueError: .*dataset.max_length=20 leaves nothing to learn"):
        execute(config)
    assert "Traceback" in (folder_of(config) / "log.txt").read_text()


def test_devices_are_no_part_of_a_runs_identity_except_for_a_mean_of_means(compose):
    from harness.record.identity import run_id

    names = [run_id(compose(*TINY, *more)) for more in ((), ("train.devices=2",), ("train.devices=auto",))]
    assert len(set(names)) == 1
    mean = [run_id(compose("train.loss=micro_batch_mean", f"train.devices={n}")) for n in (1, 2)]
    assert len(set(mean)) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train.sharding=fsdp",), "sharding=fsdp needs several processes"),
        (("train.cpu_offload=true", "train.devices=2"), "cpu_offload=true has no effect with sharding=ddp"),
        (("train.devices=0",), "train.devices"),
        (("train.devices=2", "train.sharding=fsdp", "train.method=qlora"), "a 4-bit base cannot be sharded"),
        (("train.devices=auto", "train.loss=micro_batch_mean"), "give a number"),
    ],
)
def test_impossible_places_are_refused(compose, overrides, message):
    with pytest.raises(ValueError, match=message):
        compose(*TINY, *overrides)
