"""The judge `alpaca_eval`: the real package with any of its annotators, in its own environment.

`make alpaca-eval` creates the environment: the package needs releases of pandas, datasets, setuptools and scikit-learn
that this project does not support. It runs as a subprocess with its own prompts, parsing, retries, prices and order of
the answers (the rule of `order_is_switched`, seed 0). Rows are booked, asked and stored in chunks.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from harness.config import JudgeConfig
from harness.judge.annotations import order_is_switched
from harness.judge.base import Batch, Comparison, Identity, Verdict
from harness.judge.ended import annotators_folder
from harness.judge.judges.openai import key_from_environment
from harness.judge.ledger import BooksCalls
from harness.record.content import path_fingerprint
from harness.record.secrets import redact

CHUNK = 32
"""Rows annotated together: what a crash can lose, and how many calls the package runs in parallel."""

_RUNNER = Path(__file__).with_name("alpaca_eval_runner.py")
_SEED = 0


class AlpacaEvalJudge(BooksCalls):
    """One subprocess per run, fed a chunk at a time."""

    free = False

    def __init__(self, config: JudgeConfig, folder: Path) -> None:
        assert config.annotators_config is not None
        assert config.python is not None
        self._config, self._log = config, folder / "alpaca_eval.log"
        self.limits = config
        self._python, self._annotators = Path(config.python).expanduser(), config.annotators_config
        self.orders: tuple[bool, ...] | None = None
        local = annotators_folder(self._annotators) or Path(self._annotators).expanduser()
        if len(local.parts) > 1 and not local.exists():
            raise ValueError(f"judge.annotators_config={config.annotators_config}: no such file or folder")
        content = path_fingerprint(str(local)) if local.exists() else ""
        if local.exists():
            self._annotators = str(local.resolve())
        version = f"alpaca_eval {_package_version(self._python)}"
        _environment(config)  # reports a missing key at once
        self.identity = Identity(local.stem, config.base_url or "", content, {"package": version, "seed": _SEED})

    def check_budget(self, comparisons: Sequence[Comparison], spent_calls: int, spent_usd: float) -> None:
        """Refuse more rows than judge.max_calls; only the package knows the cost of a call."""
        limit = self._config.max_calls
        if limit is not None and spent_calls + len(comparisons) > limit:
            raise ValueError(
                f"judge {self._config.name}: {len(comparisons)} calls, but judge.max_calls={limit} with {spent_calls} "
                f"calls and {spent_usd:.2f} USD spent with this judge in this verdict store"
            )

    def verdicts(self, comparisons: Sequence[Comparison]) -> Iterator[Batch]:
        """Yield a chunk of verdicts at a time.

        Raises:
            ValueError: the package failed; names its log.
        """
        with open(self._log, "a", encoding="utf-8") as log, self._start() as process:
            copying = threading.Thread(target=_copy_redacted, args=(process.stderr, log))
            copying.start()
            assert process.stdin is not None
            try:
                _send(process.stdin, {"annotators_config": self._annotators, "seed": _SEED})
                for start in range(0, len(comparisons), CHUNK):
                    asked = comparisons[start : start + CHUNK]
                    self.book(0.0, len(asked))  # only the package knows the cost of a call, afterwards
                    answered = self._annotate(process, asked)
                    if answered is None:
                        break
                    self.correct(sum(verdict.usd for verdict in answered))
                    yield [(start + place, verdict) for place, verdict in enumerate(answered)]
                with suppress(BrokenPipeError):
                    process.stdin.close()
                status = process.wait()
            finally:
                process.kill()
                copying.join()
        if status != 0:
            raise ValueError(
                f"judge {self.identity.name}: alpaca_eval broke off ({_last_line(self._log)}); see {self._log}"
            )

    def _annotate(self, process: subprocess.Popen[bytes], asked: Sequence[Comparison]) -> list[Verdict] | None:
        """Verdicts of one chunk; None if the process has ended."""
        assert process.stdout is not None
        _send(process.stdin, [_as_pair(comparison) for comparison in asked])
        line = process.stdout.readline()
        if not line:
            return None
        rows = {(row["instruction"], row["output_1"], row["output_2"]): row for row in json.loads(line)}
        return [_verdict(comparison, rows) for comparison in asked]

    def _start(self) -> subprocess.Popen[bytes]:
        # -P keeps this folder off the import path: its alpaca_eval.py and openai.py would shadow the packages.
        command = [str(self._python), "-P", str(_RUNNER)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=_environment(self._config))


def _copy_redacted(said: Any, log: TextIO) -> None:
    """Copy what the package prints, without keys that a server or a traceback may repeat."""
    for line in said:
        log.write(redact(line.decode("utf-8", errors="replace")))
        log.flush()


def _environment(config: JudgeConfig) -> dict[str, str]:
    """Our environment, plus the endpoint and key that the settings name; a key never goes to an endpoint unasked."""
    environment = dict(os.environ)
    if config.base_url is not None:
        no_file = str(_RUNNER.with_name("no_client_configs.yaml"))
        environment |= {"OPENAI_API_BASE": config.base_url, "OPENAI_CLIENT_CONFIG_PATH": no_file}
        environment |= {"OPENAI_API_KEY": "none", "OPENAI_API_KEYS": "none"}
    key = key_from_environment(config.api_key_env)
    if key is not None:
        environment |= dict.fromkeys(("OPENAI_API_KEY", "OPENAI_API_KEYS"), key)
    return environment


def _as_pair(comparison: Comparison) -> dict[str, str]:
    """The pair for the package, which switches by its own rule, so the other order is asked for by swapping."""
    first, second = comparison.output_1, comparison.output_2
    if _is_swapped(comparison):
        first, second = second, first
    return {"instruction": comparison.instruction, "output_1": first, "output_2": second}


def _is_swapped(comparison: Comparison) -> bool:
    return comparison.switched != order_is_switched(comparison.instruction, _SEED)


def _verdict(comparison: Comparison, rows: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> Verdict:
    pair = _as_pair(comparison)
    row = rows.get((pair["instruction"], pair["output_1"], pair["output_2"]), {})
    given = row.get("preference")
    preference = float(given) if given is not None and 1 <= given <= 2 else None
    if preference is not None and _is_swapped(comparison):
        preference = 3 - preference
    usd = float(row.get("preference_price_per_example") or 0.0)
    seconds = float(row.get("preference_time_per_example") or 0.0)
    raw = row.get("preference_raw_completion")
    return Verdict(preference, raw if isinstance(raw, str) else json.dumps(raw), usd, seconds, 1)


def _send(pipe: Any, message: Any) -> None:
    if pipe.closed:
        return
    try:
        pipe.write(json.dumps(message).encode("ascii") + b"\n")
        pipe.flush()
    except BrokenPipeError:  # it died; its exit status and log say why
        with suppress(BrokenPipeError):
            pipe.close()


def _package_version(python: Path) -> str:
    """Version of alpaca_eval in its environment, without importing it."""
    command = [str(python), "-c", "import importlib.metadata as m; print(m.version('alpaca_eval'))"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"judge.python={python}: no environment with alpaca_eval there; run `make alpaca-eval`"
        ) from error
    return found.stdout.strip()


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "no output")
