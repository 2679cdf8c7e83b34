"""How flat quality is in alpha, how much of a gain is length, what the papers' claims come to: by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.run_folders import config_of, write_run

from analysis import claims, custom, flatness, length_gain, load_runs, table
from analysis.__main__ import main
from analysis.notebook import draw_figures
from analysis.render.table import Value
from analysis.stats import Estimate
from analysis.tables.computed.registry import COMPUTED


def mean_of(value: Value) -> float:
    assert isinstance(value, Estimate)
    return value.mean


def test_a_gain_is_split_into_length_and_the_rest(tmp_path: Path) -> None:
    """References have 8 characters. Without noise 4 similar answers win 1; with it 2 similar win 1, 2 longer 2."""
    write_run(tmp_path, config_of("none"), preferences=[2, 1, 1, 1], lengths=[8, 8, 8, 8])
    write_run(tmp_path, config_of("neftune", 5), preferences=[2, 1, 2, 2], lengths=[8, 8, 80, 80])
    (table,) = length_gain(load_runs(tmp_path))
    ((labels, (runs, length, whole, by_length, equal)),) = table.rows
    assert labels == ["neftune", "5"]
    assert runs == "1"
    assert mean_of(length) == 36
    assert mean_of(whole) == pytest.approx(50)
    # Half of the answers move from a class that wins (25 + 50) / 2 to one that wins 100.
    assert mean_of(by_length) == pytest.approx(0.5 * 100 - 0.5 * 37.5)
    assert mean_of(equal) == pytest.approx((1 + 0.5) / 2 * (50 - 25))
    assert mean_of(by_length) + mean_of(equal) == pytest.approx(mean_of(whole))


def test_a_gain_is_paired_by_seed(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, config_of("none", seed=seed), preferences=[1, 1, 2, 1])
        write_run(tmp_path, config_of("neftune", 5, seed), preferences=[1, 2, 2, 1 + seed])
    write_run(tmp_path, config_of("neftune", 5, 7), preferences=[1, 1, 1, 1])
    (table,) = length_gain(load_runs(tmp_path))
    ((_, (runs, _, whole, by_length, _)),) = table.rows
    assert runs == "2"
    assert mean_of(whole) == pytest.approx((25 + 50) / 2)
    assert mean_of(by_length) == 0


def test_alphas_that_are_not_shown_to_be_worse(tmp_path: Path) -> None:
    """Alpha 5 is best; 1 differs from it by less than its scatter, 30 by far more."""
    losses = {1.0: (1.0, 1.2, 1.1), 5.0: (1.0, 1.1, 1.1), 30.0: (2.0, 2.1, 2.1)}
    for alpha, values in losses.items():
        for seed, value in enumerate(values):
            write_run(tmp_path, config_of("neftune", alpha, seed), {"eval/loss": value + 0.001 * seed * alpha})
    (table,) = flatness(load_runs(tmp_path))
    rows = {str(values[0]): values[1:] for _, values in table.rows}
    assert rows["eval loss"] == ["1, 5, 30", "5 (1.072)", "30 (2.097)", "1, 5"]
    assert rows["win rate"][3] == "1, 5, 30", "the same wins at every alpha"


def statuses(folder: Path) -> dict[str, list[str]]:
    (table,) = claims(load_runs(folder))
    found: dict[str, list[str]] = {}
    for (text,), values in table.rows:
        found.setdefault(text, []).append(str(values[-1]))
    return found


def test_claims_are_held_against_paired_differences_at_the_papers_alphas(tmp_path: Path) -> None:
    """The eval loss falls clearly with NEFTune, its answers get shorter; alpha 100 is no test."""
    for seed in range(4):
        wins = [1, 2, 1, 2] if seed % 2 else [2, 1, 2, 1]
        jitter = 0.001 * seed
        write_run(tmp_path, config_of("none", seed=seed), {"eval/loss": 2.0}, [2, 1, 2, 1], lengths=[50 + seed] * 4)
        write_run(tmp_path, config_of("neftune", 5, seed), {"eval/loss": 1.5 + jitter}, wins, lengths=[10] * 4)
        write_run(tmp_path, config_of("neftune", 100, seed), {"eval/loss": 9.0 + jitter}, wins, lengths=[90] * 4)
    found = statuses(tmp_path)
    assert found["neftune < none: eval loss"] == ["agrees"]
    assert found["neftune > none: length"] == ["contradicts"]
    assert found["neftune > none: win rate"] == ["undecided: needs more instructions"]
    assert found["symnoise > neftune: win rate"] == ["not run"]
    (table,) = claims(load_runs(tmp_path))
    units = {text: values[4] for (text,), values in table.rows}
    assert units["neftune < none: eval loss"] == "nats"
    assert units["neftune > none: win rate"] == "points"


def test_two_noises_are_compared_at_one_alpha_with_common_seeds(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, config_of("neftune", 5, seed))
        write_run(tmp_path, config_of("neftune", 10, seed + 10))
        write_run(tmp_path, config_of("symnoise", 5, seed), preferences=[2, 2, 2, 1 + 0.1 * seed])
        write_run(tmp_path, config_of("symnoise", 10, seed), preferences=[2, 2, 2, 1 + 0.1 * seed])
    (table,) = claims(load_runs(tmp_path))
    compared = [(text, values[1], values[2]) for (text,), values in table.rows if values[-1] != "not run"]
    assert ("symnoise > neftune: win rate", "5", "3") in compared
    assert {alpha for _, alpha, _ in compared} == {"5"}


def test_runs_with_nothing_to_compare_say_so(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune", 5))
    for tables in (each(load_runs(tmp_path)) for each in (claims, flatness, length_gain)):
        assert "nothing to compare" in str(tables)


def test_without_a_finished_run_it_is_one_error(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("neftune", 5), status="failed")
    with pytest.raises(ValueError, match="no finished run for the table flatness"):
        flatness(load_runs(tmp_path))


@pytest.mark.parametrize("name", ["claims", "flatness", "length_gain", "checklist"])
def test_the_command_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    write_run(tmp_path, config_of("none"))
    for alpha in (5, 10):
        write_run(tmp_path, config_of("neftune", alpha))
    assert main(["table", "list"]) == 0
    title = COMPUTED[name].title
    assert f"{name:<18}{title}" in capsys.readouterr().out
    assert main(["table", name, str(tmp_path), "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1


def test_a_notebook_shows_the_largest_sets_of_runs_and_counts_the_others(tmp_path: Path) -> None:
    for number in range(6):
        for alpha in range(1, 2 + number):
            write_run(tmp_path, config_of("neftune", alpha, train__lr=0.1 * (number + 1)), name=f"run{number}-{alpha}")
    tables = table(load_runs(tmp_path))
    assert len(tables) == 6
    shown = tables._repr_html_()
    assert shown.count("<caption>") == 4
    assert shown.index("train.lr=0.6") < shown.index("train.lr=0.5")
    assert "train.lr=0.2" not in shown
    assert "2 more tables" in shown
    assert "train.lr=0.2" in str(tables)
    said = str(draw_figures(load_runs(tmp_path), "length_histograms"))
    assert said.count("Answer lengths") == 4
    assert "length_histograms: not drawn for 2 of the sets of runs: left out here" in said


def test_probes_are_compared_in_pairs_by_name(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, config_of("none", seed=seed), {"probe/trace": 1.0 + seed})
        write_run(tmp_path, config_of("neftune", 5, seed), {"probe/trace": 1.5 + seed})
    (found,) = custom(load_runs(tmp_path), metrics=["probe/trace"], differences=["probe/trace"])
    heads = [column.header for column in found.columns]
    difference = found.rows[1][1][heads.index("trace - none")]
    assert mean_of(difference) == 0.5


def test_a_metric_that_no_run_has_is_named_and_stops_no_notebook(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"), {"eval/loss": 1.0})
    runs = load_runs(tmp_path)
    (some,) = custom(runs, metrics=["eval/loss", "probe/trace"], differences=["probe/trace"])
    assert "not measured for these runs: probe/trace" in some.notes
    none = custom(runs, metrics=["probe/trace", "probe/*"])
    assert "Not measured for these runs" in str(none)
    assert "<td>probe/*</td>" in none._repr_html_()
