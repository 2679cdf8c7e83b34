"""Tables as text, Markdown, CSV, LaTeX and HTML: nothing lost, nothing escaping, on pages of every width."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.run_folders import config_of, write_run
from support.study import estimate, sweep, tables_of

from analysis import custom, load_runs
from analysis import table as analysis_table
from analysis.render.blocks import blocks, cell_text
from analysis.render.formats import render
from analysis.render.latex import escaped
from analysis.render.table import Column, Table, stacked
from analysis.stats import Estimate
from analysis.tables.build import build
from analysis.tables.layouts import LAYOUTS, custom_layout


def test_csv_has_full_precision_and_one_line_per_row(tmp_path: Path) -> None:
    sweep(tmp_path)
    [table] = tables_of(tmp_path)
    rows = list(csv.DictReader(io.StringIO(render([table], "csv"))))
    assert len(rows) == 5
    win = estimate(table, ["neftune", "5"], "win rate")
    assert float(rows[1]["win rate (%)"]) == pytest.approx(win.mean, rel=1e-9)
    assert float(rows[1]["win rate (%) low"]) == pytest.approx(win.low, rel=1e-9)
    assert (rows[1]["win rate (%) runs"], rows[1]["win rate (%) instructions"]) == ("3", "24")
    assert "length-controlled (%)" not in rows[1], "no run has it"


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "latex", "html"])
def test_no_format_passes_on_terminal_escapes_lines_or_markup(form: str) -> None:
    hostile = "\x1b[31m\x9b2J\u202e\r\n<img src=x onerror=alert(1)>[a](http://e.x)|\x07"
    table = Table(hostile, hostile, [hostile], [Column(hostile, is_text=True)], [([hostile], [hostile])], [hostile])
    shown = render([table], form)
    assert not set(shown) & set("\x1b\x9b\u202e\r\x07")
    assert "⟨U+001B⟩" in shown
    assert "⟨RLO⟩" in shown
    if form == "markdown":
        assert r"\<img" in shown
        assert r"]\(http" in shown
        assert not re.search(r"(?<!\\)<img|\]\(", shown)
    if form == "html":
        assert "<img" not in shown


def test_an_interval_of_one_run_has_a_sign_and_a_note() -> None:
    single, several = (Estimate(40.0, 1.0, 38.0, 42.0, runs, 50, 49.0) for runs in (1, 3))
    column = Column("win rate", decimals=1)
    assert (cell_text(column, single), cell_text(column, several)) == ("40.0 ± 2.0‡", "40.0 ± 2.0")
    shown = render([Table("t", "T", ["run"], [column], [(["a"], [single]), (["b"], [several])])], "text")
    assert "‡ interval over the instructions of one run: another seed may lie outside" in shown


@pytest.mark.parametrize(
    ("mean", "half", "shown"),
    [
        (0.381, 0.6049, "+0.38 ± 0.60"),
        (-0.00007982, 0.009965, "-0.0001 ± 0.0100"),
        (-3.6e-6, 0.0022, "+0.0000 ± 0.0022"),
        (31.4159, 27.3, "+31 ± 27"),
        (1.455e11, 2.376e9, "+1.455e+11 ± 2.376e+09"),
    ],
)
def test_a_mean_is_printed_as_exactly_as_its_interval(mean: float, half: float, shown: str) -> None:
    value = Estimate(mean, half / 4, mean - half, mean + half, 3)
    assert cell_text(Column("difference", decimals=None, signed=True), value) == shown


def test_no_number_is_a_negative_zero() -> None:
    assert Column("loss", decimals=3).number(-0.0004) == "0.000"


def test_csv_of_several_tables_is_one_table(tmp_path: Path) -> None:
    write_run(tmp_path, config_of("none"), {"eval/loss": 2.0})
    write_run(tmp_path, config_of("none", judge__name="gpt4"), {"judge/accuracy": 50.0}, name="other")
    rows = list(csv.DictReader(io.StringIO(render(tables_of(tmp_path), "csv"))))
    assert [row["accuracy (%)"] for row in rows] == ["50", ""]
    assert [row["eval loss (nats)"] for row in rows] == ["", "2"]
    assert "judge=gpt4" in rows[0]["table"]


class Cells(HTMLParser):
    """Counts tags and collects the text of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_text_of_a_config_is_escaped(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script> & 50%_|x"
    write_run(tmp_path, config_of("none", dataset__path=nasty), name="a")
    write_run(tmp_path, config_of("none", dataset__path="plain"), name="b")
    tables = tables_of(tmp_path, "symnoise_fig1")
    parser = Cells()
    parser.feed(render(tables, "html"))
    assert "script" not in parser.tags
    assert any(nasty in text for text in parser.texts)
    assert r"\& 50\%\_\textbar{}x" in render(tables, "latex")
    body = [line for line in render(tables, "markdown").splitlines() if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in body}) == 1


def test_latex_tables_are_of_one_width_and_close_what_they_open(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=1)
    for name in ("symnoise_table1", "differences", "noise_types"):
        text = render(tables_of(tmp_path, name), "latex")
        for tabular in text.split(r"\begin{tabular}{")[1:]:
            spec, body = tabular.split("}\n", 1)
            rows = [line for line in body.split(r"\end{tabular}")[0].splitlines() if line.endswith(r" \\")]
            assert len(rows) > 1
            assert {row.count(" & ") + 1 for row in rows} == {len(spec)}, name
            assert all(body.count("\\" + rule) >= 1 for rule in ("toprule", "midrule", "bottomrule"))
        assert text.count(r"\begin{table}") == text.count(r"\end{table}") == text.count(r"\caption{")


def test_a_long_latex_table_goes_on_in_another_float(tmp_path: Path) -> None:
    for seed in range(3):
        for alpha in range(1, 60):
            write_run(tmp_path, config_of("neftune", alpha, seed))
    text = render(tables_of(tmp_path, "probe_radii"), "latex")
    assert text.count(r"\caption{") == 2
    assert text.count(" (continued)}") == 1
    notes = [part for part in text.split(r"\end{table}") if r"\begin{flushleft}" in part]
    assert len(notes) == 1, "notes stand once, at the end"
    assert " (continued)}" in notes[0]


def test_signs_that_latex_would_print_as_others() -> None:
    assert escaped("-0.1 [-0.8, >1000] <0.001 a-b") == (r"$-$0.1 [$-$0.8, \textgreater{}1000] \textless{}0.001 a-b")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_every_table_compiles_and_fits_a_page(tmp_path: Path) -> None:
    sweep(tmp_path / "runs")
    texts = [render(tables_of(tmp_path / "runs", name), "latex") for name in LAYOUTS]
    page = r"\documentclass{article}\usepackage[textwidth=5.5in,textheight=9in]{geometry}\usepackage{booktabs,graphicx}"
    whole = "\n".join([page, r"\begin{document}", *(f"{text}\\clearpage" for text in texts), r"\end{document}"])
    (tmp_path / "all.tex").write_text(whole, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "all.log").read_text(encoding="latin-1")
    assert "Overfull \\hbox" not in log
    assert "Float too large" not in log


def test_win_rate_and_length_are_never_parted_by_a_page(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=1)
    [table] = tables_of(tmp_path, "noise_types")
    for widest in (60, 80, 100):
        pages = [
            {" ".join(lines).strip() for lines in zip(*block.heads, strict=True)}
            for block in blocks(stacked(table), widest, 2)
        ]
        [first] = [page for page in pages if "win rate (%)↑" in page]
        assert "length (characters)" in first
        assert len(pages) > 1


def test_a_wide_table_goes_on_below_with_its_labels(tmp_path: Path) -> None:
    final = {f"probe/curvature/rademacher/{radius}": 1.0 for radius in (1, 100, 15, 5)}
    write_run(tmp_path, config_of("symnoise", 5), {**final, **{f"probe/measure_number_{i:02}": 2.0 for i in range(30)}})
    [table] = build(load_runs(tmp_path), custom_layout(None, None, "probe/*"))
    assert [c.header.split()[-1] for c in table.columns[1:5]] == ["1", "5", "15", "100"]
    lines = render([table], "text").splitlines()
    rows = [line for line in lines if line.startswith("symnoise  5")]
    assert len(rows) > 1
    assert max(map(len, lines)) <= 160
    assert sum(len(row.split()) - 2 for row in rows) == len(table.columns)


def test_a_change_beyond_a_thousand_percent_is_not_spelled_out() -> None:
    column = Column("change", "%", 1, signed=True, largest=1000.0)
    assert cell_text(column, Estimate(34.8, math.nan, -99.8, 94677.8, 2)) == "+34.8 [-99.8, >1000]"


def test_text_columns_are_aligned(tmp_path: Path) -> None:
    sweep(tmp_path)
    lines = render(tables_of(tmp_path), "text").splitlines()
    rule = next(i for i, line in enumerate(lines) if set(line) == {"-"})
    place = lines[rule - 1].index("(%)↑") + 3
    assert all(lines[rule + k][place].isdigit() for k in range(1, 6))
    assert max(len(line) for line in lines[: rule + 6]) <= 170


def test_tables_in_a_notebook_are_html_and_elsewhere_text(tmp_path: Path) -> None:
    sweep(tmp_path, seeds=1)
    shown = analysis_table(load_runs(tmp_path), "differences")
    assert shown._repr_html_().startswith("<table>")
    assert "± half of a 95% t interval" in str(shown)
    assert re.search(r"eval\s+loss", str(custom(load_runs(tmp_path), metrics=["eval/loss"])))


def test_a_title_of_very_many_settings_is_short_and_the_rest_stands_below(tmp_path: Path) -> None:
    settings = {f"train__{key}": f"a-rather-long-value-of-{key}" for key in ("lr", "optimizer", "layout", "freeze")}
    settings |= {f"generate__{key}": f"a-rather-long-value-of-{key}" for key in ("prompt", "dtype", "backend", "kind")}
    for seed in range(2):
        write_run(tmp_path, config_of("none", seed=seed), name=f"plain-{seed}")
        write_run(tmp_path, config_of("none", seed=seed, **settings), name=f"other-{seed}")
    tables = tables_of(tmp_path)
    assert len({table.title for table in tables}) == 2
    [long] = [table for table in tables if any("a-rather-long-value-of-kind" in note for note in table.notes)]
    assert long.title.endswith(("and more: set 1)", "and more: set 2)"))
    assert len(long.title) < 450
    assert len(long.notes[0]) > len(long.title)
