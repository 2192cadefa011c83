"""Which design all trained ones together say is the best."""

from dataclasses import replace

from nas.architecture import Architecture
from nas.counting import count
from nas.report.page import render
from nas.search.expected import expected_best
from nas.study.records import StudyRecord, TrialRecord
from tests.kits.records import IMAGE, SETTINGS, study, trial


def with_widths(accuracies: dict[int, float]) -> StudyRecord:
    """A study of one stage of these widths, compared on few images."""

    def made(number: int, width: int, accuracy: float) -> TrialRecord:
        design = Architecture(
            blocks=(1,), channels=(width,), kernels=(3,), shortcut_kernels=(1,), pool=8
        )
        cost = count(design, IMAGE)
        return replace(
            trial(number, accuracy=accuracy),
            architecture=design,
            parameters=cost.parameters,
            mult_adds=cost.mult_adds,
        )

    trials = [made(i, width, accuracy) for i, (width, accuracy) in enumerate(accuracies.items())]
    space = {
        **SETTINGS.space,
        **{"stages": [1], "blocks": [[1]], "channels": [list(accuracies)], "kernels": [[3]]},
        **{"shortcut_kernels": [[1]], "pool": [8]},
    }
    settings = replace(SETTINGS, space=space, validation_images=200)
    return replace(study(*trials), settings=settings)


WIDER_IS_BETTER = {width: 0.5 + 0.02 * (width // 8) for width in range(8, 136, 8)}


def test_a_lucky_score_among_bad_ones_is_not_expected_to_be_the_best() -> None:
    found = with_widths({**WIDER_IS_BETTER, 24: 0.85})
    assert found.incumbent is not None
    assert found.incumbent.number == 2
    best = expected_best(found)
    assert best is not None
    assert best.trial.number >= 12
    assert best.low < best.val_accuracy < best.high <= 0.85
    assert f"the best is trial {best.trial.number}, measured" in render(found)


def test_the_best_by_its_score_may_be_the_best_expected_too() -> None:
    found = with_widths(WIDER_IS_BETTER)
    best = expected_best(found)
    assert best is not None
    assert best.trial == found.incumbent
    assert f"it is trial {best.trial.number}, measured" in render(found)


def test_a_few_designs_say_nothing_of_each_other() -> None:
    few = dict(list(WIDER_IS_BETTER.items())[:9])
    assert expected_best(with_widths(few)) is None
    assert "what all designs together say" not in render(with_widths(few))
    assert expected_best(study()) is None
