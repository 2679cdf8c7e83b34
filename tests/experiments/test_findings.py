"""The page of findings: every number from a study's file, a study without results says so, a wrong row is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import findings

VERDICT = {"study": "grid", "noise": "neftune", "alpha": "5", "measure": "accuracy"}
GRADIENT = {"study": "gradient", "model": "tiny", "which": "base", "strength": "5", "column": "odd part"}
ROW = {"study": "released", "row": "win rate (%)"}


@pytest.fixture
def book(tmp_path: Path) -> Path:
    for name in ("grid", "gradient", "released", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "grid" / "verdicts.csv").write_text(
        "table,noise,alpha,measure,noise to embedding,seeds,difference,difference low,difference high,unit,verdict\n"
        "t,neftune,5,accuracy,0.084,6,0.38,-0.22,0.99,points,no effect beyond 2 points\n"
    )
    (tmp_path / "gradient" / "gradient.csv").write_text(
        "table,noise,model,strength,odd part / sampling noise (%),odd part / sampling noise (%) low,"
        "odd part / sampling noise (%) high\nGradient (model=tiny),none,base,5,8.2,5.7,10.3\n"
    )
    table = "| | a | b | by |\n|---|---|---|---|\n| win rate (%) | 26.46 | 61.64 |  |\n"
    (tmp_path / "released" / "table.md").write_text(table)
    return tmp_path


def claim(*evidence: dict[str, str], **more: str) -> dict[str, Any]:
    return {"claim": "It helps", "paper": "P", "evidence": list(evidence), "change": "more", **more}


def test_evidence_is_read_from_the_files(book: Path) -> None:
    assert findings.found(VERDICT, book) == (
        "neftune, alpha 5, accuracy: +0.38 points [-0.22, +0.99], 6 seeds, noise 0.084 of the embeddings: "
        "**no effect beyond 2 points**"
    )
    assert findings.found(GRADIENT, book).endswith("alpha 5: odd part 8.2% [5.7, 10.3]")
    assert findings.found(ROW, book) == "win rate (%): a 26.46, b 61.64"


def test_a_verdict_is_what_the_studies_say_and_what_is_still_to_come(book: Path) -> None:
    later = VERDICT | {"study": "empty"}
    assert findings.verdict(claim(VERDICT), book) == "accuracy: no effect beyond 2 points (neftune at 5)"
    assert findings.verdict(claim(VERDICT, later), book).endswith("points (neftune at 5); still to come: empty")
    assert findings.verdict(claim(ROW, verdict="length"), book) == "length"
    text = findings.page({"claims": [claim(VERDICT, later)]}, book)
    assert "| It helps | accuracy: no effect beyond 2 points (neftune at 5); still to come: empty |" in text
    assert "- [empty](../experiments/empty): not run yet" in text
    assert "**What would change it.** More." in text


def test_settings_that_the_studies_decide_alike_stand_together_with_what_they_are_compared_with(book: Path) -> None:
    head = "table,noise,alpha,measure,noise to embedding,seeds,difference,difference low,difference high,unit,verdict\n"
    title = '"Verdicts against two_draws, as planned (model=tiny, judge=none)"'
    rows = [
        f"{title},symnoise,{alpha},eval loss,1,6,0,-1,1,nats,{said}\n" for alpha, said in zip("136", "hhu", strict=True)
    ]
    (book / "empty" / "verdicts.csv").write_text(head + "".join(rows))
    pairs = [{"study": "empty", "noise": "symnoise", "alpha": alpha, "measure": "eval loss"} for alpha in "136"]
    assert findings.verdict(claim(*pairs, VERDICT), book) == (
        "eval loss against two_draws (tiny): h (symnoise at 1 and 3); "
        "eval loss against two_draws (tiny): u (symnoise at 6); "
        "accuracy: no effect beyond 2 points (neftune at 5)"
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (VERDICT | {"study": "nowhere"}, "nowhere: there is no such study"),
        (VERDICT | {"alpha": "7"}, r"verdicts\.csv: no row"),
        (ROW | {"row": "loss"}, r"table\.md: no row 'loss'"),
        (GRADIENT | {"strength": "7"}, r"gradient\.csv: no row"),
    ],
)
def test_evidence_that_is_not_there_is_refused(book: Path, entry: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        findings.found(entry, book)


def test_the_page_is_what_the_command_makes_of_the_lab_book() -> None:
    content = yaml.safe_load((findings.BOOK / "findings.yaml").read_text("utf-8"))
    assert (findings.ROOT / "docs" / "findings.md").read_text("utf-8") == findings.page(content, findings.BOOK)
