"""One training under several judges or probe settings: the results of each are kept in the run's folder.

The folder itself holds the results for the most recent settings; variants/TAG/ holds the others, each with the files
that analysis reads, hard-linked where the file system allows it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.record.files import commit_folder
from harness.record.folder import METRICS, RunFolder

FOLDER = "variants"
# Stages whose settings are not part of a run_id.
_STAGES = ("judge", "probe")
_TAG = 6  # characters
_FILES = (
    *("config.yaml", "provenance.json", "stages.json", "summary.json", METRICS, "model_outputs.json"),
    *("completions.json", "annotations.json", "probes.json", "done"),
)


def variants(folder: RunFolder) -> list[RunFolder]:
    """The results kept for settings other than the most recent ones."""
    return [RunFolder(path.parent) for path in sorted((folder / FOLDER).glob("[!.]*/done"))]


def kept(folder: RunFolder, fingerprints: Mapping[str, str], stages: Sequence[str]) -> RunFolder | None:
    """The variant in which all these stages are complete under these settings."""
    whole = (each for each in variants(folder) if all(each.is_complete(name, fingerprints[name]) for name in stages))
    return next(whole, None)


def keep_results(folder: RunFolder, fingerprints: Mapping[str, str], stages: Sequence[str]) -> None:
    """Before a finished run is judged or probed with other settings, keep its results for the current ones."""
    found = {name: entry.get("fingerprint") for name, entry in folder.stages().items() if name in _STAGES}
    others = [name for name in stages if name in found and found[name] != fingerprints[name]]
    if not others or not (folder / "done").exists():
        return
    name = variant_tag({stage: str(found[stage]) for stage in found})
    for killed in (folder / FOLDER).glob(".*.tmp"):
        shutil.rmtree(killed)
    with commit_folder(folder / FOLDER / name) as target:
        for file in (file for file in _FILES if (folder / file).exists()):
            _link(folder / file, target / file)
    folder.log(f"{', '.join(others)}: other settings; the results so far are kept in {FOLDER}/{name}")


def drop_repeated(folder: RunFolder) -> None:
    """Remove variants whose judge and probe settings are the ones that the folder itself now holds."""
    ours = folder.stages()
    for each in variants(folder):
        theirs = {name: entry for name, entry in each.stages().items() if name in _STAGES}
        if all(ours.get(name, {}).get("fingerprint") == entry["fingerprint"] for name, entry in theirs.items()):
            shutil.rmtree(each.path)


def variant_tag(fingerprints: Mapping[str, str]) -> str:
    """A short name for the settings of judge and probe."""
    text = " ".join(f"{stage}={fingerprints[stage]}" for stage in _STAGES if stage in fingerprints)
    return hashlib.sha256(text.encode()).hexdigest()[:_TAG]


def tracking_id(folder: RunFolder, fingerprints: Mapping[str, str]) -> str:
    """W&B's id: the run_id for the first settings; for later ones with their tag, and no longer than a run_id may be.

    W&B ends a run whose artifacts' names, "run-ID-probe_memorisation", pass 128 characters.
    """
    name = folder.path.name
    if not variants(folder):
        return name
    prefix, _, digest = name.rpartition("-")
    return f"{prefix[: 89 - _TAG - 1]}-{digest}-{variant_tag(fingerprints)}"


def _link(source: Path, target: Path) -> None:
    """Hard-link the file, which is safe because files of a run are replaced when they change, never overwritten."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
