"""`harness doctor [KEY=VALUE ...]`: what this machine has and lacks for the runs of these settings.

One line per finding: ok, warn or fail, what was found, and what to do. Exit status 1 if anything fails. Without
--network only servers on this machine are contacted; nothing is written; keys are never shown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One finding. advice: what to do if it is not ok."""

    state: Literal["ok", "warn", "fail"]
    what: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.state:<5}{self.what:<13}{self.found}{f': {self.advice}' if self.advice else ''}"


def main(words: Sequence[str], prog: str) -> int:
    """Print the findings; the exit status."""
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of a run, such as judge=openai")
    parser.add_argument(
        "--network", action="store_true", help="also contact the Hub, W&B and the judge, 3 s each at most"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    arguments = parser.parse_intermixed_args(words)
    found = []
    for finding in findings(arguments.settings, arguments.network):
        found.append(finding)
        if not arguments.json:
            print(_redacted(str(finding)), flush=True)
    if arguments.json:
        print(_redacted(json.dumps([asdict(each) for each in found], indent=1)))
    return 1 if any(each.state == "fail" for each in found) else 0


def findings(overrides: Sequence[str], network: bool) -> Iterator[Finding]:
    """All checks, in order."""
    from harness.commands import machine, services

    yield from machine.software()
    yield from machine.hardware()
    config = None
    try:
        config = _config(overrides)
    except ImportError as error:
        yield Finding(
            "fail", "settings", f"cannot be read, {error.name} is missing", "pip install 'noise-harness[run]'"
        )
    except Exception as error:
        from harness.cli import one_line_of

        line = one_line_of(error)
        if line is None:
            raise
        yield Finding("fail", "settings", line)
    if config is not None:
        checks: list[Callable[[Any, bool], Iterator[Finding]]] = [
            *(machine.disk, services.hub, services.tracker, services.judge, services.vllm)
        ]
        for check in checks:
            yield from check(config, network)


def _config(overrides: Sequence[str]) -> Any:
    from harness.config.compose import compose
    from harness.pipeline.plan import config_from

    return config_from(compose(overrides), overrides)


def _redacted(text: str) -> str:
    from harness.record.escape import escape_controls
    from harness.record.secrets import redact

    return redact(escape_controls(text))
