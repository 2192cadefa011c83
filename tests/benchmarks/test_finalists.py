"""The benchmark of finalists: what both choices lose, on a recorded table."""

import pytest

import finalists
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
