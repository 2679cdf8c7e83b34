"""`python -m harness.noise ratio`: how strong a noise is in a model, from its weights and a data file.

The same alpha has a different strength in another model. This prints the ratio of the norm of a document's noise to
that of its embeddings, by document, and the alpha that gives a ratio.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import Config
from harness.config.paths import conf_dir
from harness.train.ratio import QUANTILES, NoiseRatios, noise_ratios


def run(words: argparse.Namespace) -> int:
    """Print; exit status 0, or 2 with one line on standard error for bad input.

    Args:
        words: of the command line, see `harness.noise.__main__`.
    """
    try:
        config = _config(words.model, words.data, words.overrides)
        found = _checked(config, words.documents)
    except (ValueError, OSError) as error:
        return _refused(error)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("hydra", "omegaconf"):
            raise
        return _refused(error)
    if words.json:
        print(json.dumps(_record(config, found, words.alphas, words.ratios)))
    else:
        print(text(config, found, words.alphas, words.ratios))
    return 0


def _refused(error: Exception) -> int:
    from harness.config import defaults
    from harness.config.messages import keys_of, one_line

    print(f"error: {one_line(error, keys_of(defaults()))}", file=sys.stderr)
    return 2


def _config(model: str, data: str, overrides: Sequence[str]) -> Config:
    from harness.config.compose import compose
    from harness.pipeline.plan import config_from

    words = [*_chosen("model", model), *_chosen("dataset", data), *overrides]
    return config_from(compose(words), words)


def _chosen(group: str, name: str) -> list[str]:
    """The overrides for a word of the command line: a name of the group, or a path."""
    if (conf_dir() / group / f"{name}.yaml").is_file():
        return [f"{group}={name}"]
    if not Path(name).exists():
        raise ValueError(f"{group} {name}: neither a name of conf/{group} nor a file or folder")
    return [f"{group}=local", f"{group}.path={Path(name).resolve()}"]


def _checked(config: Config, documents: int) -> NoiseRatios:
    from harness.data import check_dataset
    from harness.models.checks import check_model

    if documents < 1:
        raise ValueError(f"--documents {documents}: 1 or more")
    if config.noise.distribution == "none":
        raise ValueError(f"noise={config.noise.name}: adds no noise")
    check_model(config.model)
    check_dataset(config)
    return noise_ratios(config, documents)


def _record(config: Config, found: NoiseRatios, alphas: Sequence[float], ratios: Sequence[float]) -> dict[str, Any]:
    def quantiles(values: np.ndarray) -> dict[str, float]:
        return {f"{level:g}": float(np.quantile(values, level)) for level in QUANTILES}

    return {
        "model": config.model.name,
        "dataset": config.dataset.name,
        "noise": config.noise.name,
        "scale": config.noise.scale,
        "documents": len(found.ratio),
        "tokens": quantiles(found.lengths),
        "embedding_norm": quantiles(found.embedding),
        "token_norm": quantiles(found.token),
        "ratio": {f"{alpha:g}": quantiles(found.at(alpha)) for alpha in (alphas if found.per_alpha else alphas[:1])},
        "alpha": {f"{ratio:g}": found.alpha_for(ratio) for ratio in ratios} if found.per_alpha else {},
    }


def text(config: Config, found: NoiseRatios, alphas: Sequence[float], ratios: Sequence[float]) -> str:
    """What the command prints."""
    record = _record(config, found, alphas, ratios)
    lines = [
        f"{record['model']} on {record['dataset']}, noise={record['noise']} (scale {record['scale']}), "
        f"{record['documents']} documents",
        _line("quantile by document", [f"{level:.0%}" for level in QUANTILES]),
        _line("tokens", [f"{value:.0f}" for value in record["tokens"].values()]),
        _line("norm of all embeddings", [f"{value:.3g}" for value in record["embedding_norm"].values()]),
        _line("mean norm of a token's", [f"{value:.3g}" for value in record["token_norm"].values()]),
        "norm of the noise / norm of the embeddings",
    ]
    for alpha, row in record["ratio"].items():
        name = f"alpha {alpha}" if found.per_alpha else f"rate {config.noise.rate:g}"
        lines.append(_line(name, [f"{value:.3f}" for value in row.values()]))
    if record["alpha"]:
        lines.append("alpha that gives the median document a ratio of")
        lines += [_line(ratio, [f"{alpha:.3g}"]) for ratio, alpha in record["alpha"].items()]
    return "\n".join(lines)


def _line(name: str, values: Sequence[str]) -> str:
    return f"  {name:<24}" + "".join(f"{value:>9}" for value in values)
