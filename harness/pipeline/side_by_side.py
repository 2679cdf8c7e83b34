"""Small runs of a sweep side by side, in worker processes that stay alive from run to run.

A free worker takes the next run. A run that fails, or whose process is killed, is reported and stops no other; Ctrl-C
and SIGTERM reach every worker once, and each saves its run before it exits. So does a worker whose command is killed.
"""

from __future__ import annotations

import atexit
import io
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any

from harness.config import STAGES, Config, parse
from harness.context import Job
from harness.pipeline.capacity import THREADS, Capacity
from harness.pipeline.plan import RunFailed
from harness.record import RunBusy
from harness.system.display import Display
from harness.system.forkserver import leave_server, start_server
from harness.system.parents import stop_with_command
from harness.system.signals import Stop, stoppable

# Time for a worker to save its run after a signal.
_LEAVE_SECONDS = 120.0
# What stages import only when they come to it.
_LAZY = ("transformers.models.llama.modeling_llama", "harness.data.builtin", "sacrebleu")

Outcome = Exception | None  # of a run; None: it is done


def prepare_workers(jobs: Sequence[Job], capacity: Capacity) -> BaseContext:
    """Let what the workers import be imported in the background; return where they come from.

    With several threads each they are spawned: numpy starts its threads when it is imported, and a fork copies none.
    """
    if capacity.threads is not None:
        os.environ[THREADS] = str(capacity.threads)
    if capacity.threads != 1:
        return multiprocessing.get_context("spawn")
    pending = {stage for job in jobs for stage in job.pending}
    modules = [f"harness.{stage}.stage" for stage in STAGES if stage in pending]
    return start_server(["harness.pipeline.runner", *_LAZY, *modules])


def run_side_by_side(configs: Sequence[Config], capacity: Capacity, context: BaseContext) -> list[Outcome]:
    """Do all runs, as many at a time as `capacity` says; return the outcome of each, in order."""
    display = Display(sys.stderr)
    waiting, outcomes = deque(range(len(configs))), dict[int, Outcome]()
    workers: list[_Worker] = []
    with stoppable() as stop:
        try:
            while len(workers) < min(capacity.runs, len(configs)):
                workers.append(_Worker(len(workers), display, context))
            while len(outcomes) < len(configs):
                for number, worker in enumerate(workers):
                    free = _free(waiting, configs, workers) if worker.run is None else None
                    if free is not None:
                        if not worker.is_alive:
                            workers[number] = worker = _Worker(number, display, context)
                        waiting.remove(free)
                        worker.start(free, configs)
                for worker in _ready(workers):
                    worker.receive(outcomes)
        finally:
            _end(workers, stop)
    return [outcomes[number] for number in range(len(configs))]


def _free(waiting: Sequence[int], configs: Sequence[Config], workers: Sequence[_Worker]) -> int | None:
    """The next run whose folder no worker holds: several judges of one training take turns."""
    held = {configs[worker.run].harness.run_id for worker in workers if worker.run is not None} - {None}
    return next((run for run in waiting if configs[run].harness.run_id not in held), None)


class _Worker:
    """One worker process and its current run."""

    def __init__(self, row: int, display: Display, context: BaseContext) -> None:
        self.connection, theirs = context.Pipe()
        arguments = (theirs, sys.stderr.isatty(), dict(os.environ))
        self.process = context.Process(target=work, args=arguments, daemon=False)  # type: ignore[attr-defined]
        self.process.start()
        theirs.close()  # so that the end of the process ends the connection
        self.run: int | None = None
        self._row, self._display = row, display
        self._name = ""

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive()

    def start(self, run: int, configs: Sequence[Config]) -> None:
        """Hand the worker a run."""
        self.run, self._name = run, str(configs[run].harness.run_id)
        self._display.status(self._row, "")
        self.connection.send(configs[run].model_dump(mode="json"))

    def receive(self, outcomes: dict[int, Outcome]) -> None:
        """Handle one message: something to show, or the outcome of the run."""
        try:
            kind, text = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            kind, text = "failed", f"{self._name}: its process {_ending(self.process.exitcode)}"
        if kind == "line":
            self._display.line(text)
        elif kind == "status":
            self._display.status(self._row, text)
        elif self.run is not None:
            error = {"busy": RunBusy, "failed": RunFailed}.get(kind)
            outcomes[self.run] = error(text) if error else None
            self.run = None
            self._display.status(self._row, "")


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    working = {worker.connection: worker for worker in workers if worker.run is not None}
    return [working[connection] for connection in wait(list(working))]  # type: ignore[index]


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was killed ({signal.Signals(-status).name}); out of memory?"
    return f"ended with status {status}"


def _end(workers: Sequence[_Worker], stop: Stop) -> None:
    """Stop idle workers; after a signal, pass it on and wait until each has saved its run."""
    for worker in workers:
        if worker.run is not None and worker.is_alive and worker.process.pid is not None:
            os.kill(worker.process.pid, stop.number or signal.SIGTERM)
    for worker in workers:
        while worker.run is not None and worker.connection.poll(_LEAVE_SECONDS):
            try:
                kind, text = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                break
            if kind == "line":
                print(text, file=sys.stderr)
            elif kind != "status":
                break
        worker.connection.close()
        worker.process.join(_LEAVE_SECONDS)
        if worker.is_alive:
            worker.process.kill()
            worker.process.join()


def work(connection: Connection, terminal: bool, environment: dict[str, str]) -> None:
    """The loop of a worker: do runs until there are no more, or the command is gone.

    Args:
        environment: the command's, which may have changed since the server started.
    """
    leave_server()
    stop_with_command()
    os.environ.update(environment)
    sys.stderr = _Forwarded(connection, terminal)
    try:
        _work(connection)
    finally:
        atexit._run_exitfuncs()  # a forked process of multiprocessing leaves them out; W&B ends its service there


def _work(connection: Connection) -> None:
    while True:
        try:
            settings = connection.recv()
        except EOFError:
            return
        try:
            connection.send(_done(settings))
        except BrokenPipeError:
            return


def _done(settings: dict[str, Any]) -> tuple[str, str]:
    from harness.pipeline.runner import execute

    try:
        execute(parse(settings))
    except RunBusy as error:
        return "busy", str(error)
    except KeyboardInterrupt as stop:
        print(f"{settings['harness']['run_id']}: {str(stop) or 'interrupted'}", file=sys.stderr)
        return "failed", "interrupted"
    except Exception as error:  # noqa: BLE001 - as Hydra's launchers: one run's failure stops no other
        return "failed", str(error)
    return "done", ""


class _Forwarded(io.TextIOBase):
    """A worker's stderr: whole lines and progress, sent to the parent for display."""

    def __init__(self, connection: Connection, terminal: bool) -> None:
        self._connection, self._rest = connection, ""
        self.seconds = 0.5 if terminal else 10.0  # between two states

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._send("line", line)
        return len(text)

    def status(self, text: str) -> None:
        """Show a state in the worker's own row."""
        self._send("status", text)

    def fileno(self) -> int:
        return 2

    def writable(self) -> bool:
        return True

    def _send(self, kind: str, text: str) -> None:
        try:
            self._connection.send((kind, text))
        except OSError:  # the parent is gone; a signal is on its way
            self._rest = ""
