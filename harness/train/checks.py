"""What of a training can be refused before it starts: method, frozen parts, adapters, optimiser, layout."""

from __future__ import annotations

from harness.config import ModelConfig, TrainConfig
from harness.models.adapters import check_peft, check_quantisation, make_trainable
from harness.models.attention import has_known_structure
from harness.models.meta import meta_model
from harness.train.optimizer import check_optimizer


def check_training(model: ModelConfig, settings: TrainConfig) -> None:
    """Check method, freeze, adapters, optimiser and layout on the meta-device model, before anything is read.

    Raises:
        ValueError: as `make_trainable`, `check_optimizer` and `check_quantisation`, or packed rows for a model that
            cannot keep their documents apart.
    """
    if settings.method == "qlora":
        check_quantisation()
    if settings.method != "full":
        check_peft()
    check_optimizer(settings)
    bare = meta_model(model)
    if bare is not None:
        if settings.layout == "packed" and not has_known_structure(bare):
            raise ValueError(f"train.layout=packed: {type(bare).__name__} cannot attend within packed documents")
        make_trainable(bare, settings)
