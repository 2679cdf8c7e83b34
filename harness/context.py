"""What every stage is given: the job that was planned, its folder, the tracker, and the model while it is in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import Config
from harness.record import RunFolder
from harness.record.tracking import Tracker
from harness.system.progress import Progress
from harness.system.signals import Stop
from harness.system.waiting import waiting

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.data.batching import Document

# (model, held-out documents, step counted from 1, whether it is the last) -> metrics, none where none are due.
Observer = Callable[[Any, "Sequence[Document]", int, bool], dict[str, float]]


@dataclass(frozen=True)
class Job:
    """One distinct run, identified once, in the plan (`harness.pipeline.plan.job_of`).

    Attributes:
        config: its settings.
        run_id: name of the run, and of its folder.
        folder: where it lives.
        fingerprints: by stage, SHA-256 of everything that the stage's output depends on.
        pending: stages that were left to do when it was planned, and "record" (see `pending_stages`).
        overrides: what was typed for it.
    """

    config: Config
    run_id: str
    folder: RunFolder
    fingerprints: Mapping[str, str]
    pending: Sequence[str] = ()
    overrides: Sequence[str] = ()


@dataclass
class Run:
    """One job in progress."""

    job: Job
    tracker: Tracker
    model: PreTrainedModel | None = None
    show_progress: bool = True
    stop: Stop = field(default_factory=Stop)
    observers: Sequence[Observer] = ()
    _recast: bool = False  # the model in memory has another dtype than it was trained in

    @property
    def config(self) -> Config:
        return self.job.config

    @property
    def run_id(self) -> str:
        return self.job.run_id

    @property
    def folder(self) -> RunFolder:
        return self.job.folder

    def trained_model(self, dtype: str | None = None) -> PreTrainedModel:
        """The fine-tuned model on this process's device: the one in memory, else from the folder's model/.

        Args:
            dtype: of its weights, by torch's name; None: as trained. Adapters beside a 4- or 16-bit base keep theirs.

        Raises:
            ValueError: there is none; the run was not trained, or with train.keep_model=false.
        """
        import torch

        from harness.models.adapters import is_adapted
        from harness.models.load import load_trained
        from harness.models.place import cast, place

        wanted = None if dtype is None else getattr(torch, dtype)
        if self.model is not None and self._recast and self.model.dtype != wanted:
            self.release_model()
        if self.model is None:
            train = self.config.train
            self.folder.verify("train")
            four_bits = train.lora if train.method == "qlora" else None
            model = self.config.model
            if dtype is not None and train.method == "full":  # read directly in that dtype: no wider copy in between
                model, self._recast = model.model_copy(update={"dtype": dtype}), dtype != model.dtype
            with self.waiting("loading the model"):
                self.model = load_trained(model, self.config.seed, self.trained_weights(), four_bits)
        if wanted is not None and self.model.dtype != wanted and not is_adapted(self.model):
            cast(self.model, wanted)
            self._recast = True
        self.model = place(self.model)
        return self.model

    def trained_weights(self) -> Path:
        """The folder of the trained weights, or of the adapter.

        Raises:
            ValueError: there is none.
        """
        weights = self.folder / "model"
        if not weights.is_dir():
            raise ValueError(f"{weights}: no trained model; run the stage train (with train.keep_model=true)")
        return weights

    def release_model(self) -> None:
        """Free the model's memory (on a GPU, back to the driver); the next stage that needs it reads it again."""
        from harness.models.place import free_memory

        self.model, self._recast = None, False
        free_memory()

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer saved with the trained weights, else the base model's: the run folder alone is enough."""
        from harness.models.tokenizer import load_saved_tokenizer, load_tokenizer

        weights = self.folder / "model"
        return load_saved_tokenizer(weights) if weights.is_dir() else load_tokenizer(self.config.model)

    def progress(self, stage: str, total: int, unit: str, initial: int = 0) -> Progress:
        """A progress bar labelled with the run's place in the sweep, its noise and seed, and the stage."""
        return Progress(f"{self.short_label} {stage}", total, unit, initial, self.show_progress)

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """Say what the run is doing if the block is silent for more than a few seconds."""
        return waiting(f"{self.short_label} {what}", self.show_progress)

    @property
    def short_label(self) -> str:
        """Position in the sweep, noise, alpha and seed: what fits into a line of 80 columns."""
        config = self.config
        alpha = f"-a{config.alpha:g}" if config.alpha else ""
        name = f"{config.noise.name}{alpha}-s{config.seed}"
        return f"[{config.harness.position}] {name}" if config.harness.position else name

    @property
    def label(self) -> str:
        """Position in the sweep, if any, and run_id."""
        position = self.config.harness.position
        return f"[{position}] {self.run_id}" if position else self.run_id


@dataclass(frozen=True)
class StageResult:
    """What a stage gives back.

    Attributes:
        metrics: its final numbers; they go to summary.json and W&B.
        status: "finished" or "diverged".
        labels: names (of the judge, say).
        files: files and folders that it left in the run's folder; without them the stage is not done.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    status: str = "finished"
    labels: dict[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
