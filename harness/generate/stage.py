"""The stage `generate`: answers to the evaluation instructions, as an AlpacaEval model_outputs.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.context import Run, StageResult
from harness.data import EvalItem, load_eval_items
from harness.data.examples import turns, with_input
from harness.generate.answers import Answers, answer, position_limit
from harness.generate.checks import check_prompts, prompts_of
from harness.generate.ranks import rank_and_size
from harness.generate.settings import Completion
from harness.record import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of the numbers that answers were computed in; analysis says so below its tables.
BITS = "generate/bits"


def run(run: Run) -> StageResult:
    """Write model_outputs.json (one row per instruction) and completions.json (tokens and finish reason per answer).

    A question that follows another is asked once the other has its answer. Of several processes the first one writes.
    """
    config, tokenizer = run.config, run.tokenizer()
    items = load_eval_items(config.eval_set)
    prompts = prompts_of(items, tokenizer, config.dataset.prompt, config.generate)
    check_prompts(items, prompts, config.generate, config.model.name, position_limit(run))
    rank, ranks = rank_and_size()
    samples = config.generate.samples
    started = time.monotonic()
    with run.progress("generate", -(-len(items) * samples // ranks), "answer") as progress:

        def advance(tokens: int, rows: int) -> None:
            progress.update(rows, tokens_per_s=f"{ranks * tokens / (time.monotonic() - started):.0f}")

        answers = _all_answers(run, items, prompts, advance)
    seconds, completions = time.monotonic() - started, answers.completions
    if rank:
        return StageResult()
    texts = [_text(tokenizer, done) for done in completions]
    details = [{"tokens": len(done.token_ids), "finish_reason": done.finish_reason} for done in completions]
    write_json(run.folder / "completions.json", details)
    rows = output_rows(items, _with_turns(items, texts, samples), run.run_id, samples)
    write_json(run.folder / "model_outputs.json", rows)
    labels = {"generate_dtype": answers.dtype, "generate_backend": completions[0].backend}
    metrics = _figures(texts, completions, seconds) | {BITS: _bits(answers.dtype)}
    return StageResult(metrics, labels=labels, files=["model_outputs.json", "completions.json"])


def _bits(dtype: str) -> float:
    return 32.0 if dtype == "float32" else 16.0


def _all_answers(
    run: Run, items: Sequence[EvalItem], first: Sequence[list[int]], advance: Callable[[int, int], None]
) -> Answers:
    """`samples` answers to each item, those to one item together; turn by turn, each after its own earlier answers.

    Args:
        first: prompts of the items, right for those without earlier questions.
    """
    samples, tokenizer, settings = run.config.generate.samples, run.tokenizer(), run.config.generate
    limit = min(filter(None, (settings.max_length, position_limit(run))))
    asked = [(place, number) for place in range(len(items)) for number in range(samples)]
    resolved: dict[tuple[int, int], EvalItem] = {}
    done: dict[tuple[int, int], Completion] = {}
    dtype = backend = ""
    for turn in range(1 + max(len(item.earlier) for item in items)):
        now = [each for each in asked if len(items[each[0]].earlier) == turn]
        for place, number in now:
            resolved[place, number] = _after_its_answers(items, place, number, resolved, done, tokenizer)
        asking = [resolved[each] for each in now]
        known = [first[place] for place, _ in now]
        prompts = prompts_of(asking, tokenizer, run.config.dataset.prompt, settings) if turn else known
        fitting = [each for each, prompt in zip(now, prompts, strict=True) if len(prompt) < limit]
        if len(fitting) < len(now) and rank_and_size()[0] == 0:
            run.folder.log(
                f"generate: {len(now) - len(fitting)} of {len(now)} questions of turn {turn + 1} get no answer: what "
                f"was said before fills the {limit} tokens of generate.max_length or of the model"
            )
        said = sum(len(each.token_ids) for each in done.values())
        if fitting:
            short = [prompt for prompt in prompts if len(prompt) < limit]
            given = answer(run, short, tokenizer, partial(_advance_from, advance, said))
            dtype, backend = given.dtype, given.completions[0].backend
            done |= dict(zip(fitting, given.completions, strict=True))
        done |= {each: Completion([], "length", backend) for each in now if each not in done}
    return Answers([done[each] for each in asked], dtype)


def _advance_from(advance: Callable[[int, int], None], said: int, tokens: int, rows: int) -> None:
    advance(said + tokens, rows)


def _after_its_answers(
    items: Sequence[EvalItem],
    place: int,
    number: int,
    resolved: dict[tuple[int, int], EvalItem],
    done: dict[tuple[int, int], Completion],
    tokenizer: PreTrainedTokenizerBase,
) -> EvalItem:
    """The item with the conversation before it, the model's own answers included."""
    item = items[place]
    if item.follows is None:
        return item
    before, said = resolved[item.follows, number], _text(tokenizer, done[item.follows, number])
    return replace(item, history=(*before.history, (with_input(before.instruction, before.input), said)))


def _text(tokenizer: PreTrainedTokenizerBase, done: Completion) -> str:
    return str(tokenizer.decode(done.token_ids, skip_special_tokens=True)).strip()


def _with_turns(items: Sequence[EvalItem], texts: Sequence[str], samples: int) -> list[str]:
    """What is judged of each answer: itself, or with the answers of the turns before it."""
    found, said = [], dict[tuple[int, int], list[str]]()
    for index, text in enumerate(texts):
        place, number = divmod(index, samples)
        follows = items[place].follows
        said[place, number] = [*([] if follows is None else said[follows, number]), text]
        found.append(text if follows is None else turns("Answer", said[place, number]))
    return found


def output_rows(
    items: Sequence[EvalItem], texts: Sequence[str], generator: str, samples: int = 1
) -> list[dict[str, Any]]:
    """Rows of AlpacaEval's model_outputs.json; of several samples `output` is the first, and `samples` has all."""
    rows: list[dict[str, Any]] = []
    for item, start in zip(items, range(0, len(texts), samples), strict=True):
        several = {"samples": list(texts[start : start + samples])} if samples > 1 else {}
        row = {"dataset": item.family, "instruction": item.text, "output": texts[start], "generator": generator}
        rows.append({**row, **several})
    return rows


def _figures(texts: Sequence[str], completions: Sequence[Completion], seconds: float) -> dict[str, float]:
    tokens = sum(len(done.token_ids) for done in completions)
    stopped = [done.finish_reason == "stop" for done in completions]
    return {
        "generate/characters": fmean(len(text) for text in texts),
        "generate/stopped_percent": 100.0 * fmean(stopped),
        "generate/empty_percent": 100.0 * fmean(not text for text in texts),
        "generate/tokens_per_second": tokens / max(seconds, 1e-9),
    }
