"""The notes of a study and of its trials, in Markdown as Optuna Dashboard shows it.

Text from elsewhere (names, errors, commands) stands in code spans, where nothing has a meaning.
"""

from collections.abc import Sequence

from nas.dashboard.curve import curve_in_words
from nas.report import overview
from nas.report.tested import last_final, summary
from nas.report.words import design_in_words, duration, last_epoch, listed
from nas.statistics import wilson_interval
from nas.study.records import StudyRecord, StudySettings, TrialRecord, training_in_words
from nas.templates import Templates
from nas.text import millions, percent, percent_range, plural, times, whole

_render = Templates(
    "nas.dashboard",
    curve_in_words=curve_in_words,
    design_in_words=design_in_words,
    duration=duration,
    millions=millions,
    plural=plural,
    times=times,
    training_in_words=training_in_words,
    whole=whole,
).render


def study_note(study: StudyRecord, *, report: str | None, model: Sequence[str] = ()) -> str:
    """What was asked and found, how sure that is, and with which settings.

    `report` is the address of its report, if any, and `model` are those of its final model's files.
    """
    final = last_final(study)
    return _render(
        "study.md",
        study=study,
        settings=study.settings,
        asked=overview.asked(study),
        found=overview.found(study),
        caution=overview.caution(study),
        final=final and summary(final),
        cost=next(iter(overview.cost(study)), None),
        report=report,
        model=listed([f"[{address.rsplit('/', 1)[-1]}]({address})" for address in model]),
    ).strip()


def trial_note(trial: TrialRecord, settings: StudySettings, *, curve: str) -> str:
    """The outcome of a trial with its reason, the design, its size and its learning curve.

    `curve` is the address of the picture.
    """
    return _render(
        "trial.md",
        trial=trial,
        settings=settings,
        epochs=last_epoch(trial),
        accuracy=_accuracy(trial, settings),
        excess=listed(_excess(trial, settings)),
        curve=curve,
    ).strip()


def _accuracy(trial: TrialRecord, settings: StudySettings) -> str:
    value, images = trial.val_accuracy, settings.validation_images
    if value is None or not 0 <= value <= 1 or images < 1:
        return f"validation accuracy {value}"
    interval = wilson_interval(value, images)
    return (
        f"validation accuracy {percent(value)} "
        f"(95% interval {percent_range(interval.low, interval.high)})"
    )


def _excess(trial: TrialRecord, settings: StudySettings) -> list[str]:
    limits = settings.limits
    sizes = [
        (trial.parameters, limits.max_parameters, "parameters"),
        (trial.mult_adds, limits.max_mult_adds, "mult-adds"),
    ]
    return [
        f"{whole(size)} {name} are {whole(size - limit)} more than the limit of {whole(limit)}"
        for size, limit, name in sizes
        if size is not None and limit is not None and size > limit
    ] or ["a limit of the study is exceeded"]
