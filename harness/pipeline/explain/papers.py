"""The papers' recipes as facts: key of our config, value, and source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.config import Config

_APPENDIX = "NEFTune 2310.05914 App. A.1"
_CODE = "NEFTune's train.py"


@dataclass(frozen=True)
class Fact:
    """One number of a paper. `values`: what counts as the same; the first is the paper's."""

    key: str
    values: tuple[Any, ...]
    source: str


def _fact(key: str, source: str, *values: Any) -> Fact:
    return Fact(key, values, source)


_COMMON = [
    _fact("train.method", _APPENDIX, "full"),
    _fact("train.optimizer", _APPENDIX, "AdamW"),
    _fact("train.lr", _APPENDIX, 5e-5),
    _fact("train.scheduler", _CODE, "cosine"),
    _fact("train.warmup_ratio", _CODE, 0.03),
    _fact("train.weight_decay", _CODE, 0.0),
    _fact("train.max_grad_norm", _CODE, 1.0),
    _fact("train.batch_size", f"{_APPENDIX}: 4 GPUs x 4 x 8", 128),
    _fact("train.budget", "SymNoise 2312.01523 Alg. 2: 2B rows a step", "equal_steps"),
    _fact("train.epochs", _APPENDIX, 3.0),
    _fact("train.max_steps", _APPENDIX, None),
    _fact("train.precision", _APPENDIX, "bf16"),
    _fact("train.loss", f"{_CODE}: mean of the micro-batches' means", "micro_batch_mean"),
    _fact("dataset.max_length", _APPENDIX, 512),
    _fact("dataset.size", "all rows", None),
    _fact("dataset.seed", f"{_CODE}: shuffle", 42),
    _fact("noise.length", "NEFTune Alg. 1 and its footnote", "true"),
    _fact("noise.where", _CODE, "all"),
    _fact("noise.special_tokens", _CODE, True),
    _fact("generate.repetition_penalty", "NEFTune's generation", 1.2),
    _fact("generate.max_length", "NEFTune's generation, tokens in all", 2048),
    _fact("generate.max_new_tokens", "limited by generate.max_length alone", 2048),
]
_QLORA = "QLoRA 2305.14314 App. B (recalled, not re-read)"
_CHANGES: dict[str, list[Fact]] = {
    "neftune_paper": [],
    "symnoise_paper": [],
    "neftune_paper_70b": [
        _fact("train.lr", f"{_APPENDIX}, 70B", 2e-5),
        _fact("train.weight_decay", f"{_APPENDIX}, 70B", 0.1),
        _fact("train.batch_size", f"{_APPENDIX}, 70B", 64),
        _fact("dataset.max_length", f"{_APPENDIX}, 70B", 2048),
    ],
    "qlora_paper": [
        _fact("train.method", "NEFTune, QLoRA table", "qlora"),
        _fact("train.lora.rank", _QLORA, 64),
        _fact("train.lora.alpha", _QLORA, 16.0),
        _fact("train.lora.dropout", _QLORA, 0.1),
        _fact("train.lora.targets", _QLORA, ["all-linear"]),
        _fact("train.lora.quant_type", _QLORA, "nf4"),
        _fact("train.lora.double_quant", _QLORA, True),
    ],
}
# Tuned alpha, from {5, 10, 15}, for LLaMA-2 7B.
_ALPHA = {"alpaca": 5.0, "evol_instruct": 5.0, "sharegpt": 10.0, "openplatypus": 15.0}
# Approximate numbers of rows of the papers' data sets.
ROWS = {"alpaca": 52_002, "evol_instruct": 70_000, "sharegpt": 70_000, "openplatypus": 25_000}


def recipe_for(config: Config) -> str:
    """The recipe to compare a run with: the one it names, else the one for its noise and training method."""
    if config.train.name in _CHANGES:
        return config.train.name
    if config.train.method == "qlora":
        return "qlora_paper"
    return "symnoise_paper" if config.noise.pair == "antithetic" else "neftune_paper"


def facts(recipe: str, config: Config) -> list[Fact]:
    """What the paper of a recipe says about this run's settings; alpha depends on the data set."""
    changed = {fact.key: fact for fact in _CHANGES[recipe]}
    common = [changed.pop(fact.key, fact) for fact in _COMMON]
    return [*common, *changed.values(), *_alpha(recipe, config), *_noise(recipe, config)]


def _alpha(recipe: str, config: Config) -> list[Fact]:
    if config.noise.distribution == "none":
        return []
    if recipe == "neftune_paper_70b":
        return [_fact("alpha", f"{_APPENDIX}, 70B", 15.0)]
    if recipe == "qlora_paper":
        return [_fact("alpha", "NEFTune, QLoRA table: all three are reported", 5.0, 10.0, 15.0)]
    if config.dataset.name in _ALPHA:
        return [_fact("alpha", f"{_APPENDIX}, chosen for {config.dataset.name}", _ALPHA[config.dataset.name])]
    return [_fact("alpha", f"{_APPENDIX}: tuned on each data set", 5.0, 10.0, 15.0)]


def _noise(recipe: str, config: Config) -> list[Fact]:
    if config.noise.distribution == "none":
        return []
    if recipe == "symnoise_paper":
        return [
            _fact("noise.distribution", "SymNoise 2312.01523 Alg. 2", "rademacher"),
            _fact("noise.pair", "SymNoise 2312.01523 Alg. 2", "antithetic"),
            _fact("noise.scale", "SymNoise 2312.01523 Alg. 2 (2605.23171: matched)", "raw"),
        ]
    return [
        _fact("noise.distribution", "NEFTune Alg. 1", "uniform"),
        _fact("noise.pair", "NEFTune Alg. 1", "none"),
        _fact("noise.scale", "NEFTune Alg. 1", "raw"),
    ]
