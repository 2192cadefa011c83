"""Chance and noise: what guessing reaches, and which differences the validation images can show."""

from nas.statistics import visible_difference, wilson_interval
from nas.study.records import StudyRecord, TrialRecord
from nas.text import plural

_MATTERS = 0.02  # a difference of accuracy that is worth a warning where it cannot be seen
_MOST = 20  # numbers of trials in a sentence
_USUAL = (0.9, 0.5)  # accuracies that stand for all, before the first design is trained


def chance_of(study: StudyRecord) -> float:
    """The accuracy of naming the largest class of the validation images, whatever is shown; 0..1.

    Where no search has noted it, that of classes of equal size.
    """
    noted = [chance for s in study.searches if isinstance(chance := s.get("chance"), float)]
    return noted[-1] if noted else 1 / study.settings.input.classes


def at_chance(study: StudyRecord, trial: TrialRecord) -> bool:
    """Whether nothing shows a trial to be better than guessing: its 95% interval reaches chance."""
    accuracy, images = trial.val_accuracy, study.settings.validation_images
    if accuracy is None or not 0 <= accuracy <= 1 or images < 1:
        return False
    return wilson_interval(accuracy, images).low <= chance_of(study)


def guessing_in_words(study: StudyRecord) -> str | None:
    """Which designs of the ranking are at chance; None where none is."""
    numbers = [str(t.number) for t in study.ranking if at_chance(study, t)]
    if not numbers:
        return None
    rest = len(numbers) - _MOST
    shown = ", ".join(numbers[:_MOST]) + (f" and {rest} more" if rest > 0 else "")
    trials = "trial" if len(numbers) == 1 else "trials"
    return f"Not shown to be better than guessing ({chance_of(study):.0%}): {trials} {shown}."


def noise_in_words(study: StudyRecord) -> str | None:
    """Which differences the validation images cannot show, and chance; None where that is little.

    At the accuracy of the incumbent, or at usual ones where there is none.
    """
    images = study.settings.validation_images
    best = study.incumbent
    known = best.val_accuracy if best is not None else None
    levels = _USUAL if known is None or not 0 <= known <= 1 else (known,)
    if images < 1 or visible_difference(levels[0], images) <= _MATTERS:
        return None
    unseen = [
        f"{100 * visible_difference(level, images):.0f} points at an accuracy of {level:.1%}"
        for level in levels
    ]
    return (
        f"{plural(images, 'validation image')}: differences under {' and '.join(unseen)} cannot be "
        f"seen; chance is {chance_of(study):.0%}"
    )
