"""Setting up Hydra: it composes conf/ on top of our schema, with our sweeper as a plugin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from harness.config.paths import PACKAGE, conf_dir


def prepare_hydra() -> None:
    """Let Hydra find our sweeper (a plugin of the namespace package `hydra_plugins`) and know every key of the schema.

    Every key of the schema exists before the YAML files are laid over it, so any can be overridden.
    """
    from hydra.core.config_store import ConfigStore

    from harness.config.run import defaults

    folder = str(PACKAGE / "_ext")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    ConfigStore.instance().store(name="schema", node=defaults())


def compose(overrides: Sequence[str] = ()) -> Any:
    """What Hydra composes for `python -m harness OVERRIDES`, for other commands and scripts."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    prepare_hydra()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra_compose("config", list(overrides))
