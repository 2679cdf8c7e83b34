"""Processes with torch and transformers already imported, which takes a process of its own several seconds.

A server process imports them once per pytest worker; every other process is forked from it (multiprocessing's
"forkserver"). Code of this repository is not among the imports: each process loads it anew, with its own environment,
folder and arguments.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.context
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.multiprocessing.spawn import start_processes

_IMPORTED = [
    *("numpy", "torch", "torch._dynamo", "torch.distributed.tensor", "torch.distributed.fsdp"),
    *("accelerate", "transformers.modeling_utils", "transformers.generation", "transformers.models.auto.modeling_auto"),
    *("transformers.models.auto.tokenization_auto", "transformers.models.llama.modeling_llama"),
    *("hydra._internal.utils", "hydra._internal.instantiate._instantiate2", "omegaconf", "pydantic"),
]


def _start_server() -> None:
    """Start the server with one thread for torch, which counts its threads when it is imported."""
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload(_IMPORTED)
    given = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if given is not None:
            os.environ["OMP_NUM_THREADS"] = given


def context() -> multiprocessing.context.ForkServerContext:
    """The context whose processes are forked from the server."""
    _start_server()
    return multiprocessing.get_context("forkserver")


def spawn(function: Callable[..., None], arguments: Sequence[Any], nprocs: int) -> None:
    """`torch.multiprocessing.spawn`: function(rank, *arguments) in `nprocs` processes with this one's environment.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one of them failed.
    """
    _start_server()
    start_processes(_rank, (dict(os.environ), function, *arguments), nprocs, start_method="forkserver")


def _rank(rank: int, environ: Mapping[str, str], function: Callable[..., None], *arguments: Any) -> None:
    os.environ.clear()
    os.environ.update(environ)
    function(rank, *arguments)


def run_module(
    module: str, *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE ARGUMENTS` to its end.

    Raises:
        subprocess.TimeoutExpired: it takes longer than `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("stdout", "stderr")]
        process = context().Process(target=_main, args=(module, arguments, str(cwd), dict(env), list(map(str, said))))
        process.start()
        process.join(timeout)
        line = [sys.executable, "-m", module, *arguments]
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(line, timeout)
        code = process.exitcode
        process.close()
        return subprocess.CompletedProcess(line, code, *(path.read_text("utf-8") for path in said))


def _main(module: str, arguments: Sequence[str], cwd: str, environ: Mapping[str, str], said: Sequence[str]) -> None:
    """Become `python -m module`: its folder, environment, output, path and exit code."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    sys.path[:] = [cwd, *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)), *sys.path]
    sys.argv = [module, *arguments]
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if not isinstance(leaving.code, int | None):
            print(leaving.code, file=sys.stderr)
    finally:  # what an interpreter does at its end, and multiprocessing leaves out
        if sys.exc_info()[1] is not None:
            sys.excepthook(*sys.exc_info())
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
