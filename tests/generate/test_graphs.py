"""Decoding in steps of fixed shapes: the same answers, few shapes, and nothing that a recording could not hold."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.generation_models import ENGINE_MODELS, PAD, PROMPTS, tiny
from torch.utils._python_dispatch import TorchDispatchMode

from harness.generate import graphs
from harness.generate.backends import GenerationSettings, generate
from harness.generate.decoder import LlamaDecoder
from harness.generate.graphs import StaticSteps


@pytest.mark.parametrize("slots", [1, 3, 64])
@pytest.mark.parametrize("name", ENGINE_MODELS)
def test_fixed_shapes_give_the_same_answers(name, slots, monkeypatch):
    monkeypatch.setattr(graphs, "_POSITIONS", 8)
    model, settings = tiny(name), {"max_new_tokens": 20, "batch_size": slots, "backend": "engine"}
    plain, fixed = (
        generate(model, PROMPTS, GenerationSettings(**settings, cuda_graph=on), [4, 11, 30], PAD)
        for on in (False, True)
    )
    assert fixed == plain
    assert len({len(done.token_ids) for done in fixed}) > 1  # rows end, and others move to their slots


def filled(decoder: LlamaDecoder, prompts: list[list[int]], slots: int, capacity: int) -> Any:
    cache = decoder.new_cache(slots, capacity)
    decoder.prefill(prompts, cache, 0)
    return cache


@torch.inference_mode()
def test_a_steps_logits_and_cache_are_those_of_decode(monkeypatch):
    monkeypatch.setattr(graphs, "_POSITIONS", 4)
    decoder = LlamaDecoder(tiny("qwen3"), 20)
    prompts = [[5, 9, 11, 4, 3, 8], [7, 8], [3, 30, 31]]
    tokens, positions = [6, 12, 18], [6, 2, 3]
    one, other = (filled(decoder, prompts, slots=5, capacity=20) for _ in range(2))
    steps = StaticSteps(decoder, other)
    # float32; masked positions add zeros, in another order.
    torch.testing.assert_close(
        steps.decode(tokens, positions), decoder.decode(tokens, positions, one), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(other.keys[:, :3, :, :-1], one.keys[:, :3, :, :-1])
    assert not other.keys[:, 3:, :, :-1].any()  # empty slots stay zero but for the scratch position
    assert other.keys[:, 3, :, -1].any()


@torch.inference_mode()
def test_shapes_are_few(monkeypatch):
    monkeypatch.setattr(graphs, "_POSITIONS", 8)
    decoder = LlamaDecoder(tiny("llama"), 33)
    cache = filled(decoder, [[3, 4]] * 12, slots=12, capacity=33)
    steps = StaticSteps(decoder, cache)
    for position in range(2, 32):
        for active in (12, 7, 3, 1):
            steps.decode([5] * active, [position] * active)
    assert steps.shapes == [(rows, attended) for rows in (1, 4, 8, 12) for attended in (8, 16, 24, 32)]


class OnDeviceAlone(TorchDispatchMode):
    """Refuses what a recording of a stream cannot hold: tensors of main memory, and reads of values."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation._schema.name
        assert name not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::item"), name
        tensors = [each for each in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        assert all(each.device.type == "meta" for each in tensors), name
        made = operation(*args, **(kwargs or {}))
        assert all(
            each.device.type == "meta"
            for each in torch.utils._pytree.tree_leaves(made)
            if isinstance(each, torch.Tensor)
        ), name
        return made


@pytest.mark.parametrize("name", ENGINE_MODELS)
def test_a_step_on_a_gpu_needs_nothing_of_main_memory(name, monkeypatch):
    """On the device meta, a stand-in of a GPU: shapes and devices, no numbers."""

    def of_main_memory(*_: Any, **__: Any) -> None:
        raise AssertionError("a tensor of Python's numbers")

    make, config = ENGINE_MODELS[name]
    with torch.inference_mode():
        with torch.device("meta"):
            model = make(config()).eval()
        decoder = LlamaDecoder(model, 20)
        cache = decoder.new_cache(4, 20)
        tokens, positions = (torch.zeros(4, dtype=torch.int64, device="meta") for _ in range(2))
        monkeypatch.setattr(torch, "tensor", of_main_memory)
        with OnDeviceAlone():
            logits = decoder.decode_fixed(tokens, positions, 16, cache)
        assert (logits.shape, logits.device.type) == ((4, 61), "meta")
        with pytest.raises(AssertionError), OnDeviceAlone():
            decoder.decode([1, 2], [3, 4], cache)  # its lists come from main memory: the stand-in notices
        with pytest.raises(AssertionError), OnDeviceAlone():
            tokens.copy_(torch.zeros(4, dtype=torch.int64, device="cpu"))


def test_torch_takes_what_a_recording_asks_of_it():
    graph = object()
    inspect.signature(torch.cuda.graph).bind(graph, pool=object())
    inspect.signature(torch.cuda.graph_pool_handle).bind()
    inspect.signature(torch.cuda.Stream.wait_stream).bind(object(), object())
    inspect.signature(torch.cuda.CUDAGraph.replay).bind(graph)


def test_a_step_is_recorded_once_and_replayed(monkeypatch):
    """Order of the calls, on a stand-in of torch.cuda whose replay computes."""
    said: list[str] = []

    @contextmanager
    def block(name: str) -> Iterator[None]:
        said.append(name)
        yield

    stream = SimpleNamespace(wait_stream=lambda _: said.append("wait"))
    stand_ins = {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: block("aside"),
        "graph": lambda _, pool: block(f"record in {pool}"),
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: said.append("replay")),
        "graph_pool_handle": lambda: "pool",
    }
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value)
    decoder = LlamaDecoder(tiny("llama"), 20)
    steps = StaticSteps(decoder, filled(decoder, [[3, 4]], slots=1, capacity=20))
    computed: list[str] = []
    run = steps._recorded(lambda: computed.append("step"))
    run()
    run()
    assert said == ["wait", "aside", "wait", "record in pool", "replay", "replay"]
    assert len(computed) == graphs._WARM_UPS + 1


def test_it_is_the_engines_alone(compose):
    with pytest.raises(ValueError, match="cuda_graph=true: has no effect without backend=engine"):
        compose("generate.cuda_graph=true")
    assert compose("generate.cuda_graph=true", "generate.backend=engine").generate.cuda_graph


def test_one_call_a_layer_on_a_gpu_attends_as_blocks_of_slots_do(monkeypatch):
    """A CPU attends in blocks of slots, a GPU all slots at once; here the CPU is made to do both."""
    from harness.generate import decoder as module

    model, settings = tiny("llama"), GenerationSettings(max_new_tokens=20, backend="engine")
    answers = []
    calls: dict[int, int] = {}
    attend = module.scaled_dot_product_attention
    for size in (1, 2, 10_000):
        monkeypatch.setattr(module, "_BLOCK_SLOTS", size)
        calls[size] = 0

        def counted(*args, _size=size, **options):
            calls[_size] += 1
            return attend(*args, **options)

        monkeypatch.setattr(module, "scaled_dot_product_attention", counted)
        answers.append(generate(model, PROMPTS, settings, PAD, PAD))
    assert answers[0] == answers[1] == answers[2]
    assert calls[10_000] < calls[2] < calls[1]


@torch.inference_mode()
def test_on_a_gpu_a_decoding_step_is_one_attention_a_layer(monkeypatch):
    """On the device meta: as many calls as layers for 20 slots of any lengths."""
    from harness.generate import decoder as module

    make, config = ENGINE_MODELS["llama"]
    attend, seen = module.scaled_dot_product_attention, []
    monkeypatch.setattr(
        module,
        "scaled_dot_product_attention",
        lambda *args, **options: (seen.append(args[0].shape), attend(*args, **options))[1],
    )
    with torch.device("meta"):
        model = make(config()).eval()
    decoder = LlamaDecoder(model, 40)
    cache = decoder.new_cache(20, 40)
    decoder.decode([1] * 20, list(range(20, 0, -1)), cache)
    assert [shape[0] for shape in seen] == [20] * len(decoder.layers)
