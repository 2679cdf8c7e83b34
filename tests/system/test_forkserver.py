"""The server that workers are forked from: what it imports, and where there can be none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import environment

SCRIPT = """
import os
import signal
import sys

from harness.system.forkserver import leave_server, start_server


def work() -> None:
    inherited = "xml.dom.minidom" in sys.modules
    ignored = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    leave_server()
    heard = signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    print(inherited, ignored, heard, signal.getsignal(signal.SIGINT) is signal.default_int_handler)


if __name__ == "__main__":
    context = start_server(["not_there", "broken", "xml.dom.minidom"])
    print(context.get_start_method(), flush=True)
    process = context.Process(target=work)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def run(folder: Path, **variables: str) -> list[str]:
    (folder / "broken.py").write_text("raise RuntimeError('broken')", encoding="utf-8")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, str(folder / "script.py")]
    done = subprocess.run(
        command, env=environment(folder, **variables), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")
def test_a_worker_has_what_the_server_imported_and_hears_signals(tmp_path: Path) -> None:
    assert run(tmp_path) == ["forkserver", "True True True True"]


def test_where_the_server_can_have_no_socket_workers_are_spawned(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    assert run(tmp_path, TMPDIR=str(folder)) == ["spawn", "False False True True"]
