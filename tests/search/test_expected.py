"""Which design all trained ones together say is the best."""

from nas.report.page import render
from nas.search.expected import expected_accuracies, expected_best
from tests.kits.records import study, study_of_widths

WIDER_IS_BETTER = {width: 0.5 + 0.02 * (width // 8) for width in range(8, 136, 8)}


def test_a_lucky_score_among_bad_ones_is_not_expected_to_be_the_best() -> None:
    found = study_of_widths({**WIDER_IS_BETTER, 24: 0.85})
    assert found.incumbent is not None
    assert found.incumbent.number == 2
    best = expected_best(found)
    assert best is not None
    assert best.trial.number >= 12
    assert best.low < best.val_accuracy < best.high <= 0.85
    assert f"the best is trial {best.trial.number}, measured" in render(found)
    accuracies = [one.val_accuracy for one in expected_accuracies(found)]
    assert len(accuracies) == len(found.trials)
    assert accuracies == sorted(accuracies, reverse=True)


def test_the_best_by_its_score_may_be_the_best_expected_too() -> None:
    found = study_of_widths(WIDER_IS_BETTER)
    best = expected_best(found)
    assert best is not None
    assert best.trial == found.incumbent
    assert f"it is trial {best.trial.number}, measured" in render(found)


def test_a_few_designs_say_nothing_of_each_other() -> None:
    few = dict(list(WIDER_IS_BETTER.items())[:9])
    assert expected_best(study_of_widths(few)) is None
    assert "what all designs together say" not in render(study_of_widths(few))
    assert expected_best(study()) is None
