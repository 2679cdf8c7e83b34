"""The notebooks of this package, executed on a source of runs: .ipynb and .html, by `python -m analysis notebooks`."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from traitlets.config import Config

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
_CELL_SECONDS = 600
_FETCHED = re.compile(r"""<script[^>]*\bsrc=["']https?://[^>]*>\s*</script>""")


def names() -> list[str]:
    """The names of all notebooks."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.py"))


def execute(source: str, folder: Path, chosen: Sequence[str] = ()) -> Iterator[Path]:
    """Run notebooks (all, if none is chosen) with their SOURCE set, and write each as .ipynb and .html.

    Raises:
        ValueError: there is no such notebook, or one failed, with its error.
    """
    unknown = sorted(set(chosen) - set(names()))
    if unknown:
        raise ValueError(f"notebook {unknown[0]!r}: there is no such notebook; choose from {', '.join(names())}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in chosen or names():
        notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
        _run(name, notebook, source)
        nbformat.write(notebook, folder / f"{name}.ipynb")
        (folder / f"{name}.html").write_text(_page(name, notebook), encoding="utf-8")
        yield folder / f"{name}.html"


def _page(name: str, notebook: Any) -> str:
    """The notebook as HTML without scripts from the network, which only formulas and widgets would need."""
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook, {"metadata": {"name": name}})
    return _FETCHED.sub("", page)


def _run(name: str, notebook: Any, source: str) -> None:
    """Execute in place. The kernel imports this package, wherever it is, and listens on no port."""
    where = str(Path(source).resolve()) if Path(source).exists() else source
    path = os.pathsep.join([str(NOTEBOOKS.parents[1]), os.environ.get("PYTHONPATH", "")])
    # A socket's path is limited to about a hundred characters, so it is not below the home folder.
    with tempfile.TemporaryDirectory(prefix="kernel-") as sockets:
        kernel = {"transport": "ipc", "connection_file": str(Path(sockets) / "k.json")}
        client = NotebookClient(
            notebook, timeout=_CELL_SECONDS, kernel_name="python3", config=Config({"KernelManager": kernel})
        )
        try:
            client.execute(env={**os.environ, "RUNS": where, "PYTHONPATH": path})
        except CellExecutionError as error:
            raise ValueError(f"notebook {name}: {error.ename}: {error.evalue}") from error
