"""A judge of the user's own: the page docs/how-to/add-a-judge.md, run as it stands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config import Config, parse
from harness.judge.base import Comparison
from harness.judge.judges.registry import check_judge, load_judge

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-judge.md"
Compose = Callable[..., Config]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page's Python block as a module that can be imported."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_judges.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_judges", raising=False)
    return "my_judges"


def test_the_page_s_judge_judges(compose: Compose, module: str) -> None:
    config = compose("judge.kind=python", f"judge.target={module}:ShorterWins", "judge.name=shorter_wins")
    judge = load_judge(config.judge, False, Path("."))
    pairs = [Comparison("q", "long answer", "short"), Comparison("q", "a", "longer"), Comparison("q", "x", "y")]
    assert [verdict.preference for batch in judge.verdicts(pairs) for _, verdict in batch] == [2.0, 1.0, 1.5]
    assert judge.identity.id.startswith("shorter_wins")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:Judge", "judge.target=no_such_module:Judge: No module named 'no_such_module'"),
        ("pathlib:Nothing", "judge.target=pathlib:Nothing: module 'pathlib' has no attribute 'Nothing'"),
        ("builtins:str", "judge.target=builtins:str: a judge needs identity, orders, free"),
    ],
)
def test_a_wrong_target_is_named_before_a_run(compose: Compose, target: str, message: str) -> None:
    config = compose("judge.kind=python", f"judge.target={target}")
    with pytest.raises(ValueError, match=re.escape(message)):
        check_judge(config.judge)


def test_the_target_is_checked_by_the_schema(compose: Compose) -> None:
    with pytest.raises(ValueError, match=r"judge\.target is missing; judge\.kind=python needs it"):
        compose("judge.kind=python")
    plain = compose().model_dump(mode="json")
    with pytest.raises(ValueError, match=r"judge\.target='os.system': "):
        parse({**plain, "judge": {**plain["judge"], "kind": "python", "target": "os.system"}})
