"""The judge `instructions`: does an answer follow the checkable instructions of its question (IFEval, IFBench)?

The checkers are those of the package if-verifiable, which has both benchmarks'; the counting is theirs, too
(2311.07911, section 2.2; evaluation_lib.py of both): `strict` takes the answer as it is, `loose` the best of eight
forms of it, without its first line, its last, both, and each of those without asterisks.

A preference is 2 where all instructions are followed (strict) and 1 otherwise: the win rate is the strict accuracy of
prompts in percent, and its standard error is that of a share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from harness.data import EvalItem
from harness.judge.base import Batch, Comparison, Identity, NoBudget, Verdict
from harness.system.packages import require_package

_TRIAL = "This is one sentence. Is that another one?\n\nYes, it is."
_FETCH = "python -m nltk.downloader punkt punkt_tab stopwords averaged_perceptron_tagger_eng"


class InstructionsJudge(NoBudget):
    """Checks each answer by itself; nothing is compared with."""

    orders: tuple[bool, ...] | None = (False,)
    free = True

    def __init__(self) -> None:
        require_package("if_verifiable", "judge.kind=instructions", "judge")
        self.identity = Identity("instructions", fixed_id=f"instructions:if_verifiable-{version('if_verifiable')}")

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        """Yield every verdict at once; `raw` says in JSON what was followed, strict and loose, and what failed."""
        yield [(position, _verdict(comparison)) for position, comparison in enumerate(comparisons)]


def check_instructions(items: Sequence[EvalItem]) -> None:
    """Try every kind of check before anything is trained.

    Raises:
        ValueError: the evaluation set has nothing to check, names an instruction that there is no checker for or that
            does not take its arguments, or a checker's data are not on this machine.
    """
    tried: set[str] = set()
    for number, item in enumerate(items, start=1):
        if not item.checks:
            raise ValueError(f"judge=instructions: eval_set's question {number} has no instructions to check")
        for name, arguments in item.checks:
            where = f"eval_set: question {number}: instruction {name!r}"
            try:
                checker = _checker(name, arguments, item.text)
            except KeyError:
                raise ValueError(f"{where}: there is no checker of that name (IFEval and IFBench are known)") from None
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where} does not take {json.dumps(arguments)}: {error}") from None
            if name not in tried:
                tried.add(name)
                _try(checker, where)


def _try(checker: Any, where: str) -> None:
    """Whether the checker's data are here; it may stumble over the text of the trial for reasons of its own."""
    try:
        _followed(checker, _TRIAL)
    except Exception as error:  # noqa: BLE001 (whatever else it is comes with the answers)
        if _lacks_data(error):
            said = next(
                (line.strip() for line in str(error).splitlines() if "Resource" in line), "NLTK data not found."
            )
            raise ValueError(f"{where}: {said} Where there is a network: {_FETCH}") from None


def _lacks_data(error: Exception) -> bool:
    """NLTK's own error for data that are not on the machine; those of lists and dicts are other kinds of it."""
    return type(error) is LookupError


def instruction_figures(raws: Sequence[str]) -> dict[str, float]:
    """The benchmarks' four accuracies in percent, and how many checks broke off, from the verdicts' `raw`."""
    marks = [json.loads(raw) for raw in raws]
    figures: dict[str, float] = {"check_errors": sum(len(mark["failed"]) for mark in marks)}
    for form in ("strict", "loose"):
        each = [followed for mark in marks for followed in mark[form]]
        figures[f"prompt_{form}"] = 100.0 * sum(all(mark[form]) for mark in marks) / len(marks)
        figures[f"instruction_{form}"] = 100.0 * sum(each) / len(each)
    return figures


def _verdict(comparison: Comparison) -> Verdict:
    answer = comparison.output_2
    strict, loose, failed = [], [], []
    for name, arguments in comparison.checks:
        checker = _checker(name, arguments, comparison.instruction)
        try:
            marks = (_followed(checker, answer), any(_followed(checker, form) for form in loose_forms(answer)))
        except Exception as error:  # some checkers stumble over odd answers: not followed, and counted
            if _lacks_data(error):
                raise
            marks = (False, False)
            failed.append(f"{name}: {type(error).__name__}: {error}"[:200])
        strict.append(marks[0])
        loose.append(marks[1])
    followed = all(strict)
    raw = json.dumps({"strict": strict, "loose": loose, "failed": failed})
    return Verdict(2.0 if followed else 1.0, raw, correct=followed)


def loose_forms(answer: str) -> list[str]:
    """The eight forms of an answer that the loose accuracy looks at."""
    lines = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(text.replace("*", "") for text in cut)]


def _followed(checker: Any, answer: str) -> bool:
    return bool(answer.strip()) and bool(checker.check_following(answer))


def _checker(name: str, arguments: Mapping[str, Any], prompt: str) -> Any:
    checker = _checkers()[name](name)
    checker.build_description(**arguments)
    wanted = checker.get_instruction_args()
    if wanted and "prompt" in wanted:
        checker.build_description(prompt=prompt)
    return checker


@cache
def _checkers() -> dict[str, Any]:
    """Checkers of both benchmarks by the instruction's id; the two have none in common."""
    import langdetect
    import nltk

    langdetect.DetectorFactory.seed = 0  # its guesses are random otherwise
    fetch, nltk.download = nltk.download, lambda *_, **__: False  # IFBench's module would fetch data unasked
    try:
        from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT as IFBENCH
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT as IFEVAL
    finally:
        nltk.download = fetch
    return {**IFBENCH, **IFEVAL}
