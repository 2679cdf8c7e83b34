"""vLLM as a backend: it reads the run's model/ in its own process, optionally from another environment.

Prompts, limits and completions are those of the other backends. Its kernels round differently from transformers', and
it decodes many rows together: in half precision its text differs from `generate`'s where two tokens are nearly tied,
just as the text of any backend depends on the batch size.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.generate.sampling import vllm_seed
from harness.generate.settings import Completion, FinishReason, GenerationSettings, Request, plan_requests

_RUNNER = Path(__file__).with_name("vllm_runner.py")
_TAIL_LINES = 15  # of vLLM's output, shown in an error
# Variables of torchrun, and secrets that vLLM does not need.
_KEPT_BACK = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK")
_SECRETS = ("WANDB_API_KEY", "OPENAI_API_KEY", "HF_TOKEN")


@dataclass(frozen=True)
class VLLM:
    """How vLLM is started.

    Attributes:
        python: interpreter of its environment.
        dtype: dtype to compute in, by torch's name.
        gpus: GPUs of each copy of the model, as in CUDA_VISIBLE_DEVICES; one empty list on a CPU.
        rows: most answers in flight at a time.
        memory_share: fraction of each GPU's memory that it may use.
        cpu_cache_gib: size of its key-value cache on a CPU.
    """

    python: str = sys.executable
    dtype: str = "float32"
    gpus: Sequence[Sequence[str]] = ((),)
    rows: int = 256
    memory_share: float = 0.9
    cpu_cache_gib: float = 4.0


def generate_with_vllm(
    folder: Path,
    prompts: Sequence[list[int]],
    settings: GenerationSettings,
    eos_token_ids: frozenset[int],
    max_positions: int | None,
    how: VLLM,
    log: Path,
    samples: Sequence[int] | None = None,
) -> list[Completion]:
    """Answer every prompt (token ids) with the whole weights in `folder`, in their order.

    Each copy of the model answers its share; they work at the same time.

    Args:
        log: file for vLLM's own output.
        samples: numbers of the answers to equal prompts; None: all are the first.

    Raises:
        ValueError: as `plan_requests`.
        RuntimeError: vLLM failed; the message holds the end of its output.
    """
    requests = plan_requests(prompts, settings, max_positions, samples)
    shares = [share for number in range(len(how.gpus)) if (share := requests[number :: len(how.gpus)])]
    done: dict[int, Completion] = {}
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vllm-")))
        output = stack.enter_context(open(log, "a+", encoding="utf-8"))
        files = [(temporary / f"requests-{n}.json", temporary / f"answers-{n}.json") for n in range(len(shares))]
        started = []
        for share, gpus, (asked, answered) in zip(shares, how.gpus, files, strict=False):
            content = {
                "engine": engine_options(folder, share, how, len(gpus)),
                "prompts": [request.prompt for request in share],
                "sampling": [sampling_options(request, settings, eos_token_ids) for request in share],
            }
            asked.write_text(json.dumps(content), encoding="utf-8")
            command = [how.python, str(_RUNNER), str(asked), str(answered)]
            started.append(
                subprocess.Popen(command, env=environment(gpus, how), stdout=output, stderr=subprocess.STDOUT)
            )
            stack.callback(_end, started[-1])
        for process, share, (_, answered) in zip(started, shares, files, strict=True):
            if process.wait():
                raise RuntimeError(f"generate.backend=vllm: vLLM ended with {process.returncode}: {_tail(log)}")
            answers = json.loads(answered.read_text(encoding="utf-8"))["answers"]
            done |= {
                request.index: _completion(answer, eos_token_ids)
                for request, answer in zip(share, answers, strict=True)
            }
    return [done[index] for index in range(len(prompts))]


def engine_options(folder: Path, requests: Sequence[Request], how: VLLM, gpus: int) -> dict[str, Any]:
    """Arguments of vllm.LLM."""
    on_gpu = {"tensor_parallel_size": gpus, "gpu_memory_utilization": how.memory_share}
    return {
        "model": str(folder),
        "dtype": how.dtype,
        "max_model_len": max(len(request.prompt) + request.budget for request in requests),
        "max_num_seqs": how.rows,
        "skip_tokenizer_init": True,  # token ids in, token ids out
        "generation_config": "vllm",  # none of the model's own defaults
        "seed": 0,
        "trust_remote_code": False,
        **(on_gpu if gpus else {"enforce_eager": True}),  # its compiler needs minutes on a CPU
    }


def sampling_options(request: Request, settings: GenerationSettings, eos_token_ids: frozenset[int]) -> dict[str, Any]:
    """Arguments of vllm.SamplingParams."""
    drawn = {"top_p": settings.top_p, "seed": vllm_seed(request, settings.seed)} if settings.temperature else {}
    return {
        "temperature": settings.temperature,
        "repetition_penalty": settings.repetition_penalty,
        "max_tokens": request.budget,
        "stop_token_ids": sorted(eos_token_ids),
        "ignore_eos": True,  # the end tokens are those given here
        "detokenize": False,
        **drawn,
    }


def environment(gpus: Sequence[str], how: VLLM) -> dict[str, str]:
    """The environment of one vLLM process: its GPUs, no torchrun, no downloads, no telemetry."""
    kept = {name: value for name, value in os.environ.items() if name not in (*_KEPT_BACK, *_SECRETS)}
    kept |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"}
    if gpus:
        return kept | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    return kept | {"VLLM_CPU_KVCACHE_SPACE": str(max(1, round(how.cpu_cache_gib)))}


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def _completion(answer: Mapping[str, Any], eos_token_ids: frozenset[int]) -> Completion:
    """Cut the end token, which vLLM leaves in its answers."""
    token_ids = list(answer["token_ids"])
    reason: FinishReason = "stop" if answer["finish_reason"] == "stop" else "length"
    if token_ids and token_ids[-1] in eos_token_ids:
        token_ids, reason = token_ids[:-1], "stop"
    return Completion(token_ids, reason, "vllm")
