"""A real sweep with a failed, a diverged and a duplicate run: tables recomputed from its raw files, notebooks, status.

Nothing of `analysis` takes part in the recomputation: json, numpy and scipy alone.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.commands import environment
from support.forked import run_module

from analysis import Runs, custom, load_runs, table
from analysis.render.table import Table, Value
from analysis.stats import Estimate
from harness.data.builtin import generate

SETTINGS = [
    *("dataset.size=64", "dataset.heldout=8", "train.batch_size=8", "train.max_steps=8", "train.log_every=1"),
    *(
        "harness.workers=1",
        "train.lr=2e-3",
        "train.keep_model=false",
        "generate.max_new_tokens=12",
        "eval_set=alpaca_eval",
    ),
    *("probe.examples=2", "probe.hessian_examples=1", "probe.overfitting_examples=4", "probe.memorisation_examples=2"),
]
GRID = ["noise=none,neftune,symnoise", "alpha=15,40", "seed=0,1"]
# One diverges and never answers; the other fails, because its judge breaks off.
LOST = ["noise=neftune", "alpha=15", "tracking=disabled"]
DIVERGED = [*LOST, "train.lr=1e12"]
FAILED = [*LOST, "dataset.max_length=500", "judge.kind=python", "judge.target=broken_judge:Judge"]
BROKEN_JUDGE = """
from harness.judge.base import Identity, NoBudget, Verdict
class Judge(NoBudget):
    identity, orders, free = Identity("broken"), (False,), False
    def __init__(self, config):
        pass
    def verdicts(self, comparisons):
        yield [(0, Verdict(1.5))]
        raise ConnectionError("the service went away after its first verdict")
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs: 10 of a grid, one failed, one diverged, a copy of one of the grid."""
    root = tmp_path_factory.mktemp("study")
    items = generate("heldout", 20, seed=3)
    rows = [
        {"instruction": item.prompt, "output": item.output, "dataset": f"family{number % 5}", "generator": "gold"}
        for number, item in enumerate(items)
    ]
    (root / "items.json").write_text(json.dumps(rows), encoding="utf-8")
    (root / "broken_judge.py").write_text(BROKEN_JUDGE, encoding="utf-8")
    for arguments, code in ((GRID, 0), (DIVERGED, 0), (FAILED, 1)):
        settings = [*SETTINGS, f"eval_set.path={root / 'items.json'}", *arguments]
        done = run_module("harness", "-m", *settings, cwd=root, env=environment())
        assert done.returncode == code, done.stderr
    original = next((root / "runs").glob("*neftune-a40-s1*"))
    shutil.copytree(original, root / "runs" / "copy")
    return root / "runs"


@pytest.fixture(scope="module")
def runs(study: Path) -> Runs:
    return load_runs(study)


@pytest.fixture(scope="module")
def raw(study: Path) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """(noise, alpha) -> its runs by seed, from the files alone."""
    cells: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for folder in sorted(study.glob("*/done"), key=str):
        folder = folder.parent
        if folder.name == "copy" or (folder / "done").read_text() != "finished\n":
            continue
        config = yaml.safe_load((folder / "config.yaml").read_text())
        verdicts = json.loads((folder / "annotations.json").read_text())
        steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        cells.setdefault((config["noise"]["name"], config["alpha"]), []).append(
            {
                "seed": config["seed"],
                "families": np.array([row["dataset"] for row in verdicts]),
                "questions": [row["instruction"] for row in verdicts],
                "wins": 100 * (np.array([row["preference"] for row in verdicts]) - 1),
                "ours": np.array([len(row["output_2"]) for row in verdicts]),
                "theirs": np.array([len(row["output_1"]) for row in verdicts]),
                "probes": json.loads((folder / "probes.json").read_text())["smoothness"],
                "heldout": json.loads((folder / "summary.json").read_text())["final"]["eval/loss"],
                "steps": steps,
            }
        )
    assert {key: [run["seed"] for run in cell] for key, cell in cells.items()} == {key: [0, 1] for key in CELLS}
    return cells


# The failed run has another dataset.max_length, so that the data set's label says which one a column is about.
GROUP = "builtin (max_length=512)"
CELLS = [("none", 0.0), *((noise, alpha) for noise in ("neftune", "symnoise") for alpha in (15.0, 40.0))]
Raw = dict[tuple[str, float], list[dict[str, Any]]]


def cell(found: Table, labels: list[str], header: str, group: str = "") -> Value:
    # The reference judge measures free text by word overlap, which a table calls a proxy.
    header = header.replace("win rate", "proxy win rate")
    [place] = [i for i, c in enumerate(found.columns) if c.header == header and c.group == group]
    [values] = [values for each, values in found.rows if each == labels]
    return values[place]


def estimate(found: Table, labels: list[str], header: str, group: str = "") -> Estimate:
    value = cell(found, labels, header, group)
    assert isinstance(value, Estimate), value
    return value


def labels_of(noise: str, alpha: float) -> list[str]:
    return [noise, f"{alpha:g}" if alpha else ""]


def mean_squares(values_SI: np.ndarray) -> list[float]:
    """Of seeds, instructions and the rest."""
    s, i = values_SI.shape
    assert np.ptp(values_SI), "nothing scatters: this study tests nothing"
    seeds, items, mean = values_SI.mean(1, keepdims=True), values_SI.mean(0, keepdims=True), values_SI.mean()
    return [
        i * float(((seeds - mean) ** 2).sum()) / (s - 1),
        s * float(((items - mean) ** 2).sum()) / (i - 1),
        float(((values_SI - seeds - items + mean) ** 2).sum()) / ((s - 1) * (i - 1)),
    ]


def two_way(values_SI: np.ndarray, seeds: tuple[float, float] | None = None) -> tuple[float, float]:
    """Standard error and degrees of freedom of the mean, seeds and instructions both random; written out anew.

    seeds: a mean square for the seeds in place of their own, and its degrees of freedom.
    """
    s, i = values_SI.shape
    ms, of_seeds = mean_squares(values_SI), float(s - 1)
    if seeds:
        ms[0], of_seeds = seeds
    variance = max(ms[0] + ms[1] - ms[2], ms[0], ms[1])
    freedom = variance**2 / (ms[0] ** 2 / of_seeds + ms[1] ** 2 / (i - 1) + ms[2] ** 2 / ((s - 1) * (i - 1)))
    return float(np.sqrt(variance / (s * i))), max(freedom, min(s, i) - 1)


def by_family(values_SI: np.ndarray, families_I: np.ndarray) -> np.ndarray:
    """What counts as independent: the families' sums around the mean, scaled so that equal families give their means.

    A family of n of the N instructions is enlarged by (1 - 1 / G) / (1 - n / N), as if each were left out in turn.
    """
    mean, names, total = values_SI.mean(), sorted(set(families_I)), values_SI.shape[1]
    columns = []
    for name in names:
        inside = values_SI[:, families_I == name]
        enlarged = (1 - 1 / len(names)) / (1 - inside.shape[1] / total)
        columns.append(mean + (inside - mean).sum(axis=1) * len(names) / total * enlarged)
    return np.array(columns).T


def shared(differences: list[np.ndarray]) -> list[tuple[float, float]]:
    """Errors and freedoms with at least the differences' mean component of variance between seeds."""
    squares = [mean_squares(each) for each in differences]
    s, i = differences[0].shape
    between = float(np.mean([(seeds - rest) / i for seeds, _, rest in squares]))
    freedom = (s - 1) * (len(squares) + 1) / 2
    least = [i * between + rest for _, _, rest in squares]
    return [
        two_way(each, (floor, freedom) if ms[0] < floor else None)
        for each, ms, floor in zip(differences, squares, least, strict=True)
    ]


def holm(p_values: list[float]) -> list[float]:
    order, found, worst = sorted(range(len(p_values)), key=p_values.__getitem__), [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p_values[place]))
        found[place] = worst
    return found


def test_failed_diverged_and_copied_runs_are_listed_and_in_no_cell(runs: Runs) -> None:
    assert sorted(runs.excluded["status"]) == ["diverged", "duplicate", "failed"]
    assert len(runs.runs) == 10
    [found] = table(runs)
    assert [cell(found, labels_of(*key), "runs") for key in CELLS] == ["2"] * 5
    assert any(note.startswith("left out: 1 ") and "1 diverged" in note for note in found.notes)
    assert sum("nothing finished with" in note for note in found.notes) == 2


def test_ablation_recomputed(runs: Runs, raw: Raw) -> None:
    """Means, two-way intervals, paired differences of win rate and eval loss, Holm over all eight tests."""
    t = pytest.importorskip("scipy.stats").t
    [found] = table(runs, "ablation")
    p_values, shown, apart = [], [], []
    for column, header in (("wins", "win rate - none"), ("heldout", "eval loss - none")):
        for key in CELLS[1:]:
            pairs = zip(raw[key], raw["none", 0.0], strict=True)
            difference = np.array([ours[column] - theirs[column] for ours, theirs in pairs])
            if difference.ndim == 1:
                error, freedom = float(difference.std(ddof=1) / np.sqrt(2)), 1.0
            else:
                difference = by_family(difference, raw[key][0]["families"])
                error, freedom = two_way(difference)
                apart.append(difference)
            ours = estimate(found, labels_of(*key), header)
            assert ours.mean == pytest.approx(difference.mean())
            assert ours.high == pytest.approx(difference.mean() + t.ppf(0.975, freedom) * error, rel=1e-3)
            p_values.append(2 * float(t.sf(abs(difference.mean()) / error, freedom)))
            place = [c.header for c in found.columns].index(header.replace("win rate", "proxy win rate")) + 1
            shown.append(next(values[place] for each, values in found.rows if each == labels_of(*key)))
    errors = zip(apart, shared(apart), strict=True)
    p_values[: len(apart)] = [2 * float(t.sf(abs(each.mean()) / error, freedom)) for each, (error, freedom) in errors]
    assert shown == pytest.approx(holm(p_values), abs=1e-3)
    for key in CELLS:
        wins = by_family(np.array([run["wins"] for run in raw[key]]), raw[key][0]["families"])
        ours = estimate(found, labels_of(*key), "win rate")
        error, freedom = two_way(wins)
        assert ours.mean == pytest.approx(wins.mean(), abs=1e-9)
        assert ours.high - ours.mean == pytest.approx(t.ppf(0.975, freedom) * error, rel=1e-3)
        lengths = [run["ours"].mean() for run in raw[key]]
        assert estimate(found, labels_of(*key), "length").mean == pytest.approx(np.mean(lengths))


def test_alpha_choice_recomputed(runs: Runs, raw: Raw) -> None:
    [found] = table(runs, "alpha_grid")
    questions = raw["none", 0.0][0]["questions"]
    choosing = np.array([sha256(f"choose alpha:{text}".encode()).digest()[0] % 2 == 0 for text in questions])
    assert 0 < choosing.sum() < len(choosing)
    for noise in ("neftune", "symnoise"):
        wins = {alpha: np.array([run["wins"] for run in raw[noise, alpha]]) for alpha in (15.0, 40.0)}
        chosen = max(wins, key=lambda alpha: wins[alpha][:, choosing].mean())
        best = max(wins, key=lambda alpha: wins[alpha].mean())
        base = np.array([run["wins"] for run in raw["none", 0.0]])
        ours = estimate(found, [noise, "chosen"], "win rate", GROUP)
        assert ours.mean == pytest.approx(wins[chosen][:, ~choosing].mean())
        assert ours.instructions == (~choosing).sum()
        gain = estimate(found, [noise, "chosen"], "win rate - none", GROUP)
        pairs = (wins[chosen] - base)[:, ~choosing]
        assert gain.mean == pytest.approx(pairs.mean())
        pairs = by_family(pairs, raw["none", 0.0][0]["families"][~choosing])
        assert gain.error == pytest.approx(two_way(pairs)[0] if np.ptp(pairs) else 0)
        on_test = estimate(found, [noise, "best on test"], "win rate", GROUP)
        assert on_test.mean == pytest.approx(wins[best].mean())


def test_symnoise_over_neftune_recomputed(runs: Runs, raw: Raw) -> None:
    """Points and percent of the same pairs."""
    [found] = table(runs, "symnoise_gain")
    for alpha in (15.0, 40.0):
        ours, theirs = (np.array([run["wins"] for run in raw[noise, alpha]]) for noise in ("symnoise", "neftune"))
        points = estimate(found, labels_of("symnoise", alpha), "win rate - neftune")
        assert points.mean == pytest.approx((ours - theirs).mean())
        percent = estimate(found, labels_of("symnoise", alpha), "win rate, relative change to neftune")
        assert percent.mean == pytest.approx(100 * (ours.mean() / theirs.mean() - 1))


def test_length_bias_recomputed(runs: Runs, raw: Raw) -> None:
    [found] = table(runs, "length_bias")
    for key in CELLS:
        of_runs = []
        for run in raw[key]:
            shorter = 1.25 * run["ours"] < run["theirs"]
            of_runs.append((100 * shorter.mean(), run["wins"][shorter].mean()))
        share, win = np.mean(of_runs, axis=0)
        assert estimate(found, labels_of(*key), "answers, shorter").mean == pytest.approx(share)
        assert estimate(found, labels_of(*key), "win rate, shorter").mean == pytest.approx(win)


def test_overhead_recomputed(runs: Runs, raw: Raw) -> None:
    [found] = table(runs, "overhead")
    for key in CELLS:
        largest = [max(step["train/grad_norm"] for step in run["steps"]) for run in raw[key]]
        assert estimate(found, labels_of(*key), "largest gradient norm").mean == pytest.approx(np.mean(largest))
        flops = [run["steps"][-1]["train/flops"] for run in raw[key]]
        base = [run["steps"][-1]["train/flops"] for run in raw["none", 0.0]]
        change = 100 * (np.exp(np.mean(np.log(np.array(flops) / np.array(base)))) - 1)
        if key[0] != "none":
            ours = estimate(found, labels_of(*key), "training FLOP, relative change to none")
            assert ours.mean == pytest.approx(change, abs=1e-6)


def test_probes_recomputed(runs: Runs, raw: Raw) -> None:
    """A run's figure is the mean over its examples that have the measure; the cell's that over seeds."""
    [found] = table(runs, "probes")
    for key in CELLS:
        for measure, header in (
            ("top_eigenvalue", "top eigenvalue"),
            ("curvature/rademacher/5", "curvature, rademacher 5"),
        ):
            of_runs = [np.mean([row[measure] for row in run["probes"] if measure in row]) for run in raw[key]]
            assert estimate(found, labels_of(*key), header).mean == pytest.approx(np.mean(of_runs))


def test_custom_spread_recomputed(runs: Runs, raw: Raw) -> None:
    [found] = custom(runs, rows=["alpha"], columns="noise", metrics=["eval/loss"])
    for noise, alpha in CELLS:
        ours = estimate(found, labels_of(noise, alpha)[1:], "eval loss", noise)
        assert ours.mean == pytest.approx(np.mean([run["heldout"] for run in raw[noise, alpha]]))


def test_the_sweeps_own_wandb_logs_give_the_same_tables(study: Path, runs: Runs) -> None:
    logged = load_runs(study / "wandb")
    assert len(logged.runs) == 10
    for name in ("differences", "overhead"):
        [ours], [theirs] = (table(each, name) for each in (runs, logged))
        assert repr(ours.rows) == repr(theirs.rows)


@pytest.fixture(scope="module")
def pages(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Executes all notebooks as `make notebooks` does; name -> the executed notebook."""
    pytest.importorskip("nbconvert")
    target = tmp_path_factory.mktemp("notebooks")
    line = ["notebooks", str(study), "-o", str(target)]
    done = run_module("analysis", *line, cwd=study.parent, env=environment())
    assert done.returncode == 0, done.stderr
    return lambda name: {
        "notebook": json.loads((target / f"{name}.ipynb").read_text(encoding="utf-8")),
        "html": (target / f"{name}.html").read_text(encoding="utf-8"),
    }


def outputs_of(notebook: dict[str, Any]) -> Iterator[str]:
    for each in (output for code in notebook["cells"] for output in code.get("outputs", ())):
        yield "".join(each.get("data", {}).get("text/html", "")) or "".join(each.get("text", ""))


@pytest.mark.parametrize("name", ["ablation", "alpha_sensitivity", "length_bias", "mechanism", "reproduce_papers"])
def test_notebooks_run_and_show_the_runs(pages: Callable[[str], dict[str, Any]], name: str) -> None:
    page = pages(name)
    shown = list(outputs_of(page["notebook"]))
    assert len(shown) >= 3
    assert "symnoise" in "".join(shown)
    assert "<table" in page["html"]
    assert not re.search(r"<script[^>]*src=", page["html"]), "it asks nothing of a network"
    code = ["".join(each["source"]) for each in page["notebook"]["cells"] if each["cell_type"] == "code"]
    assert not any(line.startswith(("def ", "class ", "@")) for each in code for line in each.splitlines())
    assert sum("SOURCE = " in each for each in code) == 1
