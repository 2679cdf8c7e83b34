"""A plan looks at a file once; outside of a plan every look is a new one."""

from __future__ import annotations

import pytest

from harness.system.looks import looked_once, one_look


def test_within_a_look_the_same_arguments_are_asked_once_and_errors_again() -> None:
    asked: list[str] = []

    @looked_once
    def size(path: str, *, strict: bool = False) -> int:
        asked.append(path)
        if strict:
            raise ValueError(path)
        return len(path)

    assert (size("a"), size("a"), asked) == (1, 1, ["a", "a"])
    with one_look():
        assert (size("bb"), size("bb"), size("ccc")) == (2, 2, 3)
        for _ in range(2):
            with pytest.raises(ValueError, match="bb"):
                size("bb", strict=True)
    assert asked == ["a", "a", "bb", "ccc", "bb", "bb"]
    size("bb")
    assert asked[-1] == "bb"
    assert len(asked) == 7
