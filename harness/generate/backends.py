"""Answers to prompts, fast: our own engine where it knows the architecture, transformers' `generate` elsewhere.

    generate(model, prompts, settings, eos_token_id, pad_token_id, progress) -> one Completion per prompt

In fp32 both of these give the text of `model.generate(ids, do_sample=False, repetition_penalty=p)` on one prompt at
a time. Ties are the exception: rows computed together round differently in the last bits, so two best tokens
whose logits agree to about 1e-5 can swap. In bf16, whose last bit is near 1%, that is frequent, and the text of
either backend depends on the batch size. Sampled answers are drawn from streams of their own (sampling.py). vLLM
(vllm.py) reads a folder of weights and has no model in this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.generate.decoder import supports, supports_config
from harness.generate.engine import generate_with_engine
from harness.generate.hf import generate_with_transformers
from harness.generate.settings import Completion, GenerationSettings, ProgressCallback, plan_requests

__all__ = ["Completion", "GenerationSettings", "ProgressCallback", "generate", "supports", "supports_config"]


def generate(
    model: Any,
    prompts: Sequence[list[int]],
    settings: GenerationSettings,
    eos_token_id: int | Sequence[int],
    pad_token_id: int,
    progress: ProgressCallback | None = None,
    samples: Sequence[int] | None = None,
) -> list[Completion]:
    """Answer every prompt (token ids); completions come in the order of the prompts.

    `model` is a transformers causal language model (or a PEFT one), used on its device, in its type, in evaluation
    mode; its own generation defaults are ignored. An answer ends at any of `eos_token_id`, which is not part of it,
    or at the limits of `settings`; none goes past the model's `max_position_embeddings`. `pad_token_id` may be any
    id, the end token too. `progress(tokens, rows)` is called after every step with the tokens generated so far and
    the rows finished since the call before. backend="auto" takes the engine where `supports(model)`; every
    Completion names the backend that made it. `samples` numbers the answers to equal prompts (None: all are the first).

    Raises ValueError for an empty or over-long prompt, a cache limit too small for even one row, and backend="engine"
    for a model that it does not support.
    """
    requests = plan_requests(prompts, settings, getattr(model.config, "max_position_embeddings", None), samples)
    if not requests:
        return []
    eos = frozenset([eos_token_id] if isinstance(eos_token_id, int) else eos_token_id)
    use_engine = settings.backend in ("auto", "engine") and supports(model)
    if settings.backend == "engine" and not use_engine:
        raise ValueError(f"backend=engine does not support {type(model).__name__}: use auto or transformers")
    with _evaluation_mode(model):
        if use_engine:
            done = generate_with_engine(model, requests, settings, eos, progress)
        else:
            done = generate_with_transformers(model, requests, settings, eos, pad_token_id, progress)
    return [done[index] for index in range(len(prompts))]


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
