"""The axes of the noise: what is accepted, what is refused and how, what the presets mean."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.noise import PRESETS, Noise, schedule_factor

CONF = Path(__file__).parents[2] / "conf" / "noise"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("distribution", "bernoulli"),
        ("scale", "norm"),
        ("pair", True),
        ("length", "mean"),
        ("where", "answer"),
        ("schedule", "step"),
        ("alpha", -1.0),
        ("alpha", float("nan")),
        ("alpha", float("inf")),
        ("alpha", "5"),
        ("alpha", True),
        ("special_tokens", 1),
        ("rate", 0.1),
    ],
)
def test_a_bad_value_is_named_with_its_key(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{key}={value!r}"):
        Noise(**{key: value})


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "0.1"])
def test_a_rate_outside_its_range_is_refused(rate: Any) -> None:
    with pytest.raises(ValueError, match="rate="):
        Noise(distribution="dropout", rate=rate)


@pytest.mark.parametrize("other", [{"scale": "matched"}, {"scale": "relative"}, {"length": "row"}])
def test_dropout_refuses_settings_without_effect(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no effect with distribution='dropout'"):
        Noise(distribution="dropout", rate=0.1, **other)


def test_noise_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Noise().alpha = 1.0  # type: ignore[misc]


def test_presets_are_the_papers_definitions() -> None:
    noises = {name: Noise(**settings) for name, settings in PRESETS.items()}
    axes = {name: (n.distribution, n.scale, n.pair, n.length) for name, n in noises.items() if name != "none"}
    assert axes == {
        "neftune": ("uniform", "raw", "none", "true"),
        "neftune_hf": ("uniform", "raw", "none", "padded"),
        "neftune_relative": ("uniform", "relative", "none", "true"),
        "gaussian": ("gaussian", "raw", "none", "true"),
        "gaussian_matched": ("gaussian", "matched", "none", "true"),
        "bernoulli": ("rademacher", "raw", "none", "true"),
        "bernoulli_matched": ("rademacher", "matched", "none", "true"),
        "symnoise": ("rademacher", "raw", "antithetic", "true"),
        "symnoise_matched": ("rademacher", "matched", "antithetic", "true"),
        "symnoise_relative": ("rademacher", "relative", "antithetic", "true"),
        "neftune_x2": ("uniform", "raw", "independent", "true"),
        "bernoulli_x2": ("rademacher", "raw", "independent", "true"),
        "sym_uniform": ("uniform", "raw", "antithetic", "true"),
        "sym_gaussian": ("gaussian", "raw", "antithetic", "true"),
        "embedding_dropout": ("dropout", "raw", "none", "true"),
    }
    assert all(n.where == "all" and n.special_tokens and n.schedule == "constant" for n in noises.values())


def test_presets_are_those_of_the_command_line() -> None:
    """conf/noise says in YAML what PRESETS says in Python; methods besides "noise" are the harness's own."""
    files = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in CONF.glob("*.yaml")}
    noises = {name: settings for name, settings in files.items() if "method" not in settings}
    assert noises == {name: {"name": name, **settings} for name, settings in PRESETS.items()}


def test_strength_is_alpha_or_the_rate_or_nothing() -> None:
    assert Noise(alpha=7).strength() == 7.0
    assert Noise(**PRESETS["none"], alpha=7).strength() == 0.0
    assert Noise(distribution="dropout", rate=0.2, alpha=7).strength() == 0.2


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", (1.0, 1.0, 1.0, 1.0)),
        ("linear", (1.0, 0.95, 0.5, 0.0)),
        ("cosine", (1.0, 0.9938441702975689, 0.5, 0.0)),  # (1 + cos(pi / 20)) / 2
        ("warmup", (0.0, 0.5, 1.0, 1.0)),
    ],
)
def test_schedules_by_hand(schedule: str, factors: tuple[float, ...]) -> None:
    found = [schedule_factor(schedule, progress) for progress in (0.0, 0.05, 0.5, 1.0)]
    assert found == pytest.approx(factors, abs=1e-15)
    noise = Noise(alpha=4.0, schedule=schedule)  # type: ignore[arg-type]
    assert noise.strength(0.05) == pytest.approx(4.0 * factors[1], abs=1e-14)


def test_a_schedule_needs_progress_within_the_training() -> None:
    with pytest.raises(ValueError, match="schedule='linear': needs the progress"):
        Noise(schedule="linear").strength()
    with pytest.raises(ValueError, match=r"progress=1\.5"):
        Noise(schedule="linear").strength(1.5)
    with pytest.raises(ValueError, match="schedule='exponential'"):
        schedule_factor("exponential", 0.5)


def test_the_package_imports_torch_alone() -> None:
    names = "from harness.noise import *"
    code = f"import sys\n{names}\nprint(*sorted(m for m in sys.modules if '.' not in m))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "torch" in loaded
    assert not loaded & {"transformers", "accelerate", "peft", "hydra", "pydantic", "wandb", "pandas"}


def test_the_axes_are_read_without_torch() -> None:
    code = "import sys, harness.config, harness.noise.definition; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    import harness.noise

    assert set(harness.noise.__all__) <= set(dir(harness.noise))
    with pytest.raises(AttributeError, match="has no attribute 'pertub'"):
        harness.noise.pertub  # noqa: B018
