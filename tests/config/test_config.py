"""The schema refuses what makes no sense, in one line that names key and value."""

from __future__ import annotations

import pytest

from harness.config import defaults, parse
from harness.config.paths import conf_dir

# Others than sections of the schema: whole recipes, searches, and what this machine has of its own.
_WHOLE = ("experiment", "hparams_search", "local")
GROUPS = sorted(path.relative_to(conf_dir()) for path in conf_dir().glob("*/*.yaml") if path.parent.name not in _WHOLE)


@pytest.mark.parametrize("path", GROUPS, ids=str)
def test_every_choice_of_every_group_composes(path, compose):
    config = compose(f"{path.parent}={path.stem}") if str(path.parent) != "tracking" else compose()
    assert getattr(config, str(path.parent)).name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("alpha=-3", "alpha=-3: input should be greater than or equal to 0"),
        ("alpha=x", "alpha='x': input should be a valid number"),
        ("alpha=nan", "alpha=nan: input should be a finite number"),
        ("seed=1.5", "seed=1.5: input should be a valid integer"),
        ("noise.pair=both", "noise.pair='both': input should be 'none', 'antithetic' or 'independent'"),
        ("train.lr=0", "train.lr=0: input should be greater than 0"),
        ("model.name=../../etc", "model.name='../../etc': string should match pattern"),
        ("stages=[train,train]", "stages=['train', 'train']: contains a stage twice"),
        ("stages=[fly]", "stages.0='fly': input should be 'train'"),
        ("train.batch_size=true", "train.batch_size=True: input should be a valid integer"),
    ],
)
def test_bad_values_name_key_value_and_rule(override, message, compose):
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(").replace("[", r"\[")):
        compose(override)


def test_unknown_key_and_missing_section():
    with pytest.raises(ValueError, match="flavour: there is no such key"):
        parse({"flavour": 1})
    with pytest.raises(ValueError, match="noise: is missing"):
        parse({"alpha": 1.0})


def test_no_noise_drops_alpha(compose):
    assert compose("noise=none", "alpha=15").alpha == 0.0
    assert compose("noise=symnoise", "alpha=15").alpha == 15.0


def test_training_length_is_required(compose):
    with pytest.raises(ValueError, match="train: give epochs or max_steps"):
        compose("train.epochs=null")


def test_every_schema_key_has_a_place_on_the_command_line():
    assert defaults()["train"]["weight_decay"] == 0.0
    assert defaults()["alpha"] == "???"


def test_the_length_true_is_a_word_not_a_truth_value(compose):
    """On a command line `noise.length=true` arrives as a boolean."""
    assert compose("noise=neftune_hf", "noise.length=true").noise.length == "true"
    with pytest.raises(ValueError, match=r"noise\.length=False: input should be 'true', 'padded' or 'row'"):
        compose("noise.length=false")
