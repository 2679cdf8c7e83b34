"""Probes during training, which the pipeline passes to the stage `train` to call after its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.config import Config
from harness.context import Observer

if TYPE_CHECKING:
    from harness.data.batching import Document


def observers(config: Config) -> list[Observer]:
    """The smoothness probes every `probe.every` steps; none if that is 0."""
    if not config.probe.every:
        return []

    def smoothness_of(model: Any, heldout: Sequence[Document], step: int, last: bool) -> dict[str, float]:
        if last or step % config.probe.every:  # after the last step the stage `probe` measures the same
            return {}
        from harness.probe.smoothness.smoothness import smoothness
        from harness.probe.summary import figures, flat

        return flat(figures(smoothness(model, heldout[: config.probe.examples], config.probe), "probe"))

    return [smoothness_of]
