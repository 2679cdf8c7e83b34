"""Decoding against transformers, and the probes' second derivatives against the CPU's."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.setting import Finding, Setting, document
from harness.generate.decoder import LlamaDecoder
from harness.generate.graphs import StaticSteps
from harness.probe.smoothness.hessian import Expansion, top_eigenvalues
from harness.probe.smoothness.surface import probing, surfaces, twice_differentiable

_ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # of the largest logit, as in harness/generate/engine.py


def engine(setting: Setting) -> Iterator[Finding]:
    """A decoding step of eight of 7B's layers by rows decoded together, next to transformers' forward."""
    read, capacity = setting.size(400, 20), setting.size(1000, 40)
    for dtype in (torch.float32, torch.bfloat16):
        model = setting.llama(setting.size(8, 2), dtype).eval()
        with torch.inference_mode():
            for rows in (2, 32, 128)[: setting.size(3, 1)]:
                decoder = LlamaDecoder(model, capacity)
                cache = decoder.new_cache(rows, capacity)
                positions = [read + row % 10 for row in range(rows)]

                def step(decoder=decoder, cache=cache, positions=positions, rows=rows) -> torch.Tensor:  # type: ignore[no-untyped-def]
                    return decoder.decode([5] * rows, positions, cache)

                steps = StaticSteps(decoder, cache)

                def fixed(steps=steps, positions=positions, rows=rows) -> torch.Tensor:  # type: ignore[no-untyped-def]
                    return steps.decode([5] * rows, positions)

                name = f"{str(dtype).removeprefix('torch.')}, {rows} rows"
                yield Finding(f"{name}, engine", f"{setting.milliseconds(step):.1f} ms")
                yield Finding(f"{name}, engine, cuda_graph", f"{setting.milliseconds(fixed):.1f} ms")
                off = float((fixed() - step()).abs().max() / step().abs().max())
                yield Finding(f"{name}, largest difference of logits", f"{off:.1e}", off < _ROUNDING[dtype])
                ids = torch.ones(rows, read, dtype=torch.int64, device=setting.device)
                past = model(ids, use_cache=True, logits_to_keep=1).past_key_values

                def forward(past=past, ids=ids, model=model) -> object:  # type: ignore[no-untyped-def]
                    return model(ids[:, :1], past_key_values=past, use_cache=True)

                yield Finding(f"{name}, transformers", f"{setting.milliseconds(forward):.1f} ms")
                del decoder, cache, past, steps, step, fixed, forward
        del model
        setting.free()


def hessian(setting: Setting) -> Iterator[Finding]:
    """The largest eigenvalue of the input Hessian in float32, on the CPU and here; target: equal to 1e-3."""
    documents, values = [document(index, 40) for index in range(2)], []
    for device in ("cpu", setting.device):
        model = setting.llama(2, hidden=256, heads=4).to(device)
        with probing(model) as objective, twice_differentiable(model):
            (surface,) = surfaces(objective, documents, 1024)
            torch.manual_seed(0)
            start = torch.randn(surface.zeros().shape).to(device)
            values.append(top_eigenvalues(Expansion.of(surface.losses, surface.zeros()), start, 4)[0].cpu())
    off = float(((values[0] - values[1]) / values[0]).abs().max())
    yield Finding("relative difference", f"{off:.1e} of {values[0].tolist()}", off < 1e-3)
