"""A conversation with the model of a run: prompted as in training, decoded as in evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteriaList, TextIteratorStreamer

from harness.config import parse
from harness.data.saved_template import with_template
from harness.models.checks import reading
from harness.models.decoding import generation_config
from harness.models.load import load_trained
from harness.models.place import place
from harness.models.tokenizer import load_saved_tokenizer
from harness.record import read_settings

# Prompts for a single exchange: the model was never trained on a question with history.
_ALONE = ("alpaca", "none")


class Talk:
    """One run's model and what was said to it."""

    def __init__(self, run: Path, system: str = "") -> None:
        """Read a run's folder.

        Raises:
            ValueError: no run, no weights kept, or a system message for a prompt without one.
        """
        if not (run / "config.yaml").is_file():
            raise ValueError(f"{run}: no run (no config.yaml)")
        if not (run / "model").is_dir():
            raise ValueError(f"{run}: no weights in it (no model/): train with train.keep_model=true")
        config = parse(read_settings(run / "config.yaml"))
        self.name, self.prompt = run.resolve().name, config.dataset.prompt
        if system and self.prompt in _ALONE:
            raise ValueError(f"{run}: its prompt ({self.prompt}) has no place for a system message")
        self._tokenizer = with_template(load_saved_tokenizer(run / "model"), self.prompt)
        four_bits = config.train.lora if config.train.method == "qlora" else None
        with reading(f"{run / 'model'}: cannot be read"):
            trained = load_trained(config.model, config.seed, run / "model", four_bits)
        self._model: Any = place(trained).eval()
        decoding = generation_config(config.generate, self._tokenizer)
        self._decoding = {key: value for key, value in decoding.items() if key not in ("max_length", "max_new_tokens")}
        positions = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._limit = min(config.generate.max_length, positions or config.generate.max_length)
        self._room = config.generate.max_new_tokens
        self._start = [{"role": "system", "content": system}] if system else []
        self.messages = list(self._start)

    @property
    def remembers(self) -> bool:
        """Whether earlier exchanges are part of the question."""
        return self.prompt not in _ALONE

    def forget(self) -> None:
        """Start over."""
        self.messages = list(self._start)

    def ask(self, text: str) -> Iterator[str]:
        """The answer in pieces, as it is generated; closing the iterator stops it.

        Raises:
            ValueError: the conversation leaves no room for an answer.
        """
        if not self.remembers:
            self.forget()
        messages = [*self.messages, {"role": "user", "content": text}]
        asked: Any = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        length = asked["input_ids"].shape[1]
        if length >= self._limit:
            raise ValueError(f"{self.name}: {length} tokens so far, of {self._limit}: no room for an answer")
        answer = ""
        for piece in self._stream(asked.to(self._model.device), min(self._room, self._limit - length)):
            answer += piece
            yield piece
        self.messages = [*messages, {"role": "assistant", "content": answer.strip()}]

    def _stream(self, asked: Any, room: int) -> Iterator[str]:
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        stopped, failed = Event(), list[BaseException]()

        def work() -> None:
            try:
                with torch.inference_mode():
                    self._model.generate(
                        **asked,
                        generation_config=GenerationConfig(**self._decoding, max_new_tokens=room),
                        streamer=streamer,
                        stopping_criteria=StoppingCriteriaList([lambda ids, *_, **__: _all(ids, stopped.is_set())]),
                    )
            except BaseException as error:  # noqa: BLE001 (raised again where it is waited for)
                failed.append(error)
            finally:
                streamer.end()

        thread = Thread(target=work, daemon=True)
        thread.start()
        try:
            yield from streamer
        finally:
            stopped.set()
            thread.join()
        if failed:
            raise failed[0]


def _all(ids: torch.Tensor, value: bool) -> torch.Tensor:
    return torch.full((ids.shape[0],), value, device=ids.device)
