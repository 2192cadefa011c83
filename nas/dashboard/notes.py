"""The notes of a study and of its trials, in Markdown as Optuna Dashboard shows it, with a picture.

Text from elsewhere (names, errors, commands) is put in code spans, where Markdown has no effect.
"""

import math
from collections.abc import Sequence

from nas.architecture import LETTERS
from nas.counting import COSTS, shown_costs
from nas.report import overview
from nas.report.choices import importances_in_words
from nas.report.health import health, problems
from nas.report.settings import choices_in_words
from nas.report.tested import last_final, summary
from nas.report.words import design_in_words, is_time_up, last_epoch, listed
from nas.statistics import wilson_interval
from nas.study.records import StudyRecord, StudySettings, TrialRecord, training_in_words
from nas.templates import Templates
from nas.text import duration, milliseconds, percent, percent_range, plural, share, whole

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 408, 12, 122  # of a learning curve in its picture, in pixels


def curve_in_words(curve: Sequence[tuple[int, float]]) -> str:
    """What the picture shows: first, best and last accuracy."""
    if not curve:
        return "no epoch finished"
    best_epoch, best = max(curve, key=lambda point: (point[1], -point[0]))
    (first_epoch, first), (last_epoch, last) = curve[0], curve[-1]
    if first_epoch == last_epoch:
        return f"{percent(first)} after epoch {first_epoch}"
    return (
        f"{percent(first)} after epoch {first_epoch}, at best {percent(best)} after epoch "
        f"{best_epoch}, {percent(last)} after epoch {last_epoch}"
    )


_render = Templates(
    "nas.dashboard",
    choices_in_words=choices_in_words,
    curve_in_words=curve_in_words,
    design_in_words=design_in_words,
    letters=LETTERS,
    duration=duration,
    plural=plural,
    share=share,
    training_in_words=training_in_words,
    whole=whole,
).render


def study_note(study: StudyRecord, *, report: str, model: Sequence[str] = ()) -> str:
    """What was asked and found, how sure that is, with which settings, and what names mean.

    `report` is the address of its report, and `model` are those of its final model's files.
    """
    final = last_final(study)
    return _render(
        "study.md",
        study=study,
        settings=study.settings,
        asked=overview.asked(study),
        found=overview.found(study),
        caution=overview.caution(study, final),
        final=final and summary(final),
        cost=next(iter(overview.cost(study)), None),
        health=problems(health(study, final)),
        importances=importances_in_words(study)[1],
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
        costs=shown_costs(settings.limits),
        is_time_up=is_time_up(trial),
        accuracy=_accuracy(trial, settings),
        excess=listed(_excess(trial, settings)),
        curve=curve,
    ).strip()


def _accuracy(trial: TrialRecord, settings: StudySettings) -> str:
    value, images = trial.val_accuracy, settings.validation_images
    if value is None:
        return "no accuracy recorded"
    if not 0 <= value <= 1 or images < 1:
        return f"validation accuracy {value}"
    interval = wilson_interval(value, images)
    return (
        f"validation accuracy {percent(value)} "
        f"(95% interval {percent_range(interval.low, interval.high)})"
    )


def _excess(trial: TrialRecord, settings: StudySettings) -> list[str]:
    most_ms = settings.latency.max_ms if settings.latency else math.inf
    ms = trial.latency_ms or trial.latency_estimate_ms or 0.0
    slow = f"{milliseconds(ms)} of latency are more than the limit of {milliseconds(most_ms)}"
    return [
        f"{COSTS[n].exactly(value)} are {whole(value - most)} more than the limit of {whole(most)}"
        for n, most in settings.limits.items()
        if (value := getattr(trial, n)) is not None and value > most
    ] + ([slow] if ms > most_ms else []) or ["over a limit of the study"]


def curve_svg(curve: Sequence[tuple[int, float]], epochs: int) -> str:
    """Accuracy, 0..1, over epochs, from 1 to at least `epochs`, as an SVG document."""
    known = [(epoch, accuracy) for epoch, accuracy in curve if math.isfinite(accuracy)]
    last = max([epochs, *(epoch for epoch, _ in known)])
    accuracies = [accuracy for _, accuracy in known] or [0.0, 1.0]
    low, high = math.floor(min(accuracies) * 10) / 10, math.ceil(max(accuracies) * 10) / 10
    if high <= low:  # all the same, and a multiple of 10%
        low, high = low - 0.1, high + 0.1

    def x(epoch: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (epoch - 1) / max(1, last - 1)

    def y(accuracy: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (accuracy - low) / (high - low)

    return _render(
        "curve.svg",
        left=_LEFT,
        right=_RIGHT,
        top=_TOP,
        bottom=_BOTTOM,
        low=f"{low:.0%}",
        high=f"{high:.0%}",
        last=last,
        points=[(f"{x(epoch):.1f}", f"{y(accuracy):.1f}") for epoch, accuracy in known],
    )
