"""The benchmark of finalists: what both choices lose, on a recorded table."""

import numpy as np
import pytest
from optuna.distributions import IntDistribution

import finalists
from nas.search.domain import Domain
from tests.kits.places import ROOT


def test_both_choices_are_compared_by_the_true_accuracies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = ROOT / "benchmarks" / "tables" / "digits-half.csv"
    given = ["--table", str(table), "--seeds", "2", "--trained", "12"]
    assert finalists.main(given) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if line[0] == "| none"]
    assert [row[1:3] for row in rows] == [["12", "1"], ["12", "3"]]
    for _, _, _, score, expected, gain in rows:
        assert min(float(score), float(expected)) >= 0
        assert float(gain.split(" ± ")[0]) == pytest.approx(
            float(score) - float(expected), abs=2e-3
        )
    assert all(
        float(three) <= float(one) for one, three in zip(rows[0][3:5], rows[1][3:5], strict=True)
    )


def test_a_lucky_design_among_bad_ones_is_lost_by_score_alone() -> None:
    designs = [{"width": width} for width in range(1, 17)]
    truths = np.array([0.5 + 0.02 * design["width"] for design in designs])
    scores = np.where(np.arange(16) == 2, 0.85, truths)
    domain = Domain(search_space={"width": IntDistribution(1, 16)})
    one, three = finalists.lost(domain, designs, scores, truths, images=200)
    assert one[0] == pytest.approx(100 * (truths[15] - truths[2]))
    assert one[1] < 10
    assert three == (0, 0)
