"""A command's jobs as the harness's own sweeper makes them, without starting one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from harness.config import Config
from harness.config.compose import prepare_hydra
from harness.config.paths import conf_dir
from harness.pipeline.plan import config_from

Jobs = tuple[list[list[str]], Callable[[list[str]], Config]]


@contextmanager
def sweeping() -> Iterator[Callable[..., Jobs]]:
    """A function of a command's arguments: the overrides of its jobs, and what composes one of them into a config."""
    prepare_hydra()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        context = HydraContext(loader, Callbacks())

        def jobs(*arguments: str) -> Jobs:
            from hydra_plugins.harness_sweeper.composer import Composer

            master = loader.load_configuration("config", list(arguments), run_mode=RunMode.MULTIRUN)
            assert str(master.hydra.mode) == "RunMode.MULTIRUN"  # -m may be left out
            sweeper: Any = Plugins.instance().instantiate_sweeper(
                hydra_context=context, task_function=lambda _: None, config=master
            )
            composer = Composer(loader, master)
            return sweeper._expand(list(arguments)), lambda job: config_from(composer.compose(job))

        yield jobs
