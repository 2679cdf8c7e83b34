"""The code of docs/use-it-where-you-train.md is that of the tests, letter by letter."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "use-it-where-you-train.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"<!-- snippet: (.+?) -->\n```(?:python|yaml)\n(.*?)```", PAGE, flags=re.DOTALL)


def snippets_of_the_tests() -> dict[str, str]:
    """Snippets of all test files, without their indentation and the space around them."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name, code in re.findall(
            r"^ *# snippet: ([^\n]+)\n(.*?)^ *# end$", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
        ):
            assert name not in found, name
            found[name] = textwrap.dedent(code).strip()
    return found


def test_every_snippet_of_the_page_is_tested_and_every_tested_one_is_on_the_page() -> None:
    assert {name: code.strip() for name, code in SHOWN} == snippets_of_the_tests()


def test_no_code_is_without_a_test() -> None:
    assert PAGE.count("```python\n") + PAGE.count("```yaml\n") == len(SHOWN)
    assert len(SHOWN) >= 8
