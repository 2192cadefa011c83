"""The benchmark of allocations runs, and its processes share one study without a fault."""

import pytest

import allocations
from postgres import MISSING

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


def test_a_few_processes_share_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--processes", "2", "--trials", "12", "--each", "3", "--seconds", "0.05"]
    assert allocations.main(few) == 0
    trials, rate, middle, most = capsys.readouterr().out.splitlines()[-1].split()
    assert trials == "12"
    assert float(rate) > 0
    assert 0 < float(middle) <= float(most)
