"""vLLM as a backend, on a GPU where the extra `vllm` is installed: the same prompts, limits and completions.

vLLM reads a folder of weights, so the model is written to a temporary one. Its kernels round otherwise than
transformers', and it decodes many rows together: in half precision its text differs from `generate`'s where two tokens
are nearly tied, as that of any backend does with the batch size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from harness.generate.settings import Completion, FinishReason, GenerationSettings, ProgressCallback, Request


def generate_with_vllm(
    model: Any,
    requests: Sequence[Request],
    settings: GenerationSettings,
    eos_token_ids: frozenset[int],
    progress: ProgressCallback | None,
) -> dict[int, Completion]:
    """Answer all `requests`, completions by request index.

    While vLLM works the model waits on the CPU: both together need not fit on the device.
    """
    from vllm import LLM, SamplingParams

    device = model.device
    with tempfile.TemporaryDirectory(prefix="vllm-") as folder:
        model.to("cpu").save_pretrained(folder)
        try:
            engine = LLM(
                model=folder,
                dtype=str(model.dtype).removeprefix("torch."),
                max_model_len=max(len(request.prompt) + request.budget for request in requests),
                max_num_seqs=settings.batch_size,
                skip_tokenizer_init=True,  # token ids in, token ids out
                generation_config="vllm",  # none of the model's own defaults
                seed=0,
                trust_remote_code=False,
            )
            outputs = engine.generate(
                [{"prompt_token_ids": request.prompt} for request in requests],
                [_sampling(SamplingParams, request, settings, eos_token_ids) for request in requests],
            )
            del engine
        finally:
            model.to(device)
    done = {
        request.index: _completion(output, eos_token_ids) for request, output in zip(requests, outputs, strict=True)
    }
    if progress is not None:
        progress(sum(len(each.token_ids) for each in done.values()), len(done))
    return done


def _sampling(sampling: Any, request: Request, settings: GenerationSettings, eos_token_ids: frozenset[int]) -> Any:
    return sampling(
        temperature=0.0,
        repetition_penalty=settings.repetition_penalty,
        max_tokens=request.budget,
        stop_token_ids=sorted(eos_token_ids),
        ignore_eos=True,  # the end tokens are those given here
        detokenize=False,
    )


def _completion(output: Any, eos_token_ids: frozenset[int]) -> Completion:
    """vLLM leaves the end token in its answer; ours end before it."""
    answer = output.outputs[0]
    token_ids = list(answer.token_ids)
    reason: FinishReason = "stop" if answer.finish_reason == "stop" else "length"
    if token_ids and token_ids[-1] in eos_token_ids:
        token_ids, reason = token_ids[:-1], "stop"
    return Completion(token_ids, reason, "vllm")
