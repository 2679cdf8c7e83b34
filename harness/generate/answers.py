"""The answers of one run: by its model in this process, by several processes, or by vLLM, in the type asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from harness.config import Config, GenerateConfig
from harness.context import Run
from harness.generate.backends import Completion, GenerationSettings, ProgressCallback, generate
from harness.generate.cache import cache_room, rows_within
from harness.generate.ranks import ROWS_TOGETHER, gather, processes, rank_and_size, share, tensor_parallel
from harness.generate.sampling import sample_numbers
from harness.generate.settings import plan_requests
from harness.generate.vllm import VLLM, generate_with_vllm
from harness.models.load import load_tensor_parallel
from harness.models.place import computing_device, located, supports_bfloat16
from harness.system.gpus import visible_gpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QLORA_BYTES = 0.6  # bytes per parameter, with embedding, head and scales


@dataclass(frozen=True)
class Answers:
    """Completions in the order of the prompts, and the dtype (torch's name) used to compute them."""

    completions: list[Completion]
    dtype: str


def answer(
    run: Run, prompts: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase, progress: ProgressCallback
) -> Answers:
    """Answer all prompts, the n-th of equal ones by its n-th sample.

    Of several processes each answers a share on its own device, and all get all answers.

    A model that does not fit on one GPU is split over all of them, which then answer every prompt together.

    Raises:
        ValueError: as `generate` and `tensor_parallel`.
    """
    eos = tokenizer.eos_token_id
    if run.config.generate.backend == "vllm":
        return _by_vllm(run, prompts, eos, progress)
    pad = eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    rank, ranks = rank_and_size()
    dtype = answering_dtype(run.config)
    together = tensor_parallel(run.config, weights_bytes(run, dtype), gpu_memory(), ranks)
    with _model(run, dtype, together) as model:
        run.folder.log(f"generate: {located(model)}{_among(ranks, together)}")
        settings = generation_settings(run.config.generate, model.device)
        numbers = sample_numbers(prompts)
        if together > 1:
            done = generate(model, prompts, settings, eos, pad, progress, numbers)
            return Answers(done, str(model.dtype).removeprefix("torch."))
        ours = share(prompts, [len(prompt) for prompt in prompts], rank, ranks)
        numbers = [numbers[index] for index, _ in ours]
        done = generate(model, [prompt for _, prompt in ours], settings, eos, pad, progress, numbers)
        dtype = str(model.dtype).removeprefix("torch.")
    found = gather({index: each for (index, _), each in zip(ours, done, strict=True)})
    return Answers([found[index] for index in range(len(prompts))], dtype)


def _among(ranks: int, together: int) -> str:
    if ranks == 1:
        return ""
    return f", cut over {ranks} processes" if together > 1 else f", a share of the answers on each of {ranks} processes"


@contextmanager
def _model(run: Run, dtype: str, together: int) -> Iterator[Any]:
    if together == 1:
        yield run.trained_model(dtype).eval()
        return
    run.release_model()
    with whole_weights(run, dtype) as folder:
        yield load_tensor_parallel(folder, dtype).eval()


def answering_dtype(config: Config) -> str:
    """The dtype that generate.dtype asks for; auto: bfloat16 on a GPU that supports it, else the model's own."""
    if config.generate.dtype != "auto":
        return config.generate.dtype
    return "bfloat16" if supports_bfloat16() else config.model.dtype


def generation_settings(config: GenerateConfig, device: torch.device) -> GenerationSettings:
    """How answers are decoded on a device."""
    return GenerationSettings(
        max_new_tokens=config.max_new_tokens,
        max_length=config.max_length,
        repetition_penalty=config.repetition_penalty,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
        batch_size=config.batch_size or ROWS_TOGETHER.get(device.type, ROWS_TOGETHER["cpu"]),
        backend="auto" if config.backend == "vllm" else config.backend,
        cache_gib=config.cache_gib,
        cuda_graph=config.cuda_graph,
    )


def _by_vllm(run: Run, prompts: Sequence[list[int]], eos: int, progress: ProgressCallback) -> Answers:
    run.release_model()  # vLLM asks for nearly all of a GPU's memory
    config, dtype = run.config, answering_dtype(run.config)
    gpus = visible_gpus()[: processes(config)]
    together = tensor_parallel(config, weights_bytes(run, dtype), gpu_memory(), max(1, len(gpus)))
    copies = [gpus[begin : begin + together] for begin in range(0, len(gpus), together)] or [[]]
    settings = generation_settings(config.generate, computing_device())
    with whole_weights(run, dtype) as folder:
        limit = position_limit(run)
        how = VLLM(
            dtype=dtype,
            gpus=copies,
            rows=_vllm_rows(run, dtype, prompts, settings, limit, together),
            memory_share=0.9 / config.harness.runs_per_gpu,
            cpu_cache_gib=config.generate.cache_gib or cache_room(torch.device("cpu")),
        )
        how = replace(how, python=config.generate.python) if config.generate.python else how
        where = f"on the GPUs {'; '.join(','.join(copy) for copy in copies)}" if gpus else "on the CPU"
        run.folder.log(f"generate: vLLM {where}, {dtype}, up to {how.rows} answers at a time")
        numbers, log = sample_numbers(prompts), run.folder / "vllm.log"
        done = generate_with_vllm(folder, prompts, settings, frozenset([eos]), limit, how, log, numbers)
    progress(sum(len(each.token_ids) for each in done), len(done))
    return Answers(done, dtype)


def _vllm_rows(
    run: Run,
    dtype: str,
    prompts: Sequence[list[int]],
    settings: GenerationSettings,
    limit: int | None,
    together: int,
) -> int:
    """Rows of the longest answer that fit next to the weights, at most generate.batch_size or 256."""
    memory, wanted = gpu_memory(), run.config.generate.batch_size or ROWS_TOGETHER["cuda"]
    capacity = max(request.cached_tokens for request in plan_requests(prompts, settings, limit))
    room = settings.cache_gib
    if room is None:
        room = cache_room(torch.device("cpu"))
        if memory:
            room = (0.9 * min(memory) / run.config.harness.runs_per_gpu - weights_bytes(run, dtype) / together) / 2**30
    return rows_within(_config_of(run), getattr(torch, dtype), capacity, wanted, max(room, 0.01), together)


@contextmanager
def whole_weights(run: Run, dtype: str) -> Iterator[Path]:
    """A folder with the whole weights of the trained model: model/ itself or, for an adapter, a temporary merged copy.

    All processes of torchrun must call it; the first one writes.
    """
    weights = run.trained_weights()
    if not (weights / "adapter_config.json").exists():
        yield weights
        return
    from harness.models.merge import save_merged

    rank, ranks = rank_and_size()
    with tempfile.TemporaryDirectory(prefix="merged-", dir=run.folder.path) as temporary:
        folders: list[Any] = [temporary]
        if ranks > 1:
            torch.distributed.broadcast_object_list(folders)
        if rank == 0:
            save_merged(run.config.model, run.config.seed, weights, Path(folders[0]), dtype)
        if ranks > 1:
            torch.distributed.barrier()
        try:
            yield Path(folders[0])
        finally:
            if ranks > 1:
                torch.distributed.barrier()


def weights_bytes(run: Run, dtype: str) -> float:
    """Bytes of the trained model in the dtype that it answers in, from its sizes; nothing is read."""
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(_config_of(run), trust_remote_code=False)
    count = sum(parameter.numel() for parameter in bare.parameters())
    wide: torch.dtype = getattr(torch, dtype)
    return count * (_QLORA_BYTES if run.config.train.method == "qlora" else wide.itemsize)


def _config_of(run: Run) -> PretrainedConfig:
    from harness.models.source import source_of

    weights = run.trained_weights()
    if (weights / "config.json").exists():
        found: PretrainedConfig = AutoConfig.from_pretrained(weights, trust_remote_code=False)
        return found
    if run.config.model.architecture is not None:
        from harness.models.meta import published_config

        built = published_config(run.config.model)
        assert built is not None
        return built
    source, revision = source_of(run.config.model)
    base: PretrainedConfig = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    return base


def position_limit(run: Run) -> int | None:
    """Tokens that a sequence of the trained model may have; None: no limit."""
    limit: int | None = getattr(_config_of(run).get_text_config(), "max_position_embeddings", None)
    return limit


def gpu_memory() -> list[int]:
    """Memory in bytes of each visible GPU."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
