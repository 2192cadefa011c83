"""The notes of a study and of its trials, in Markdown as Optuna Dashboard shows it.

Text from elsewhere (names, errors, commands) stands in code spans, where nothing has a meaning.
"""

import re
from collections.abc import Sequence

from nas.dashboard.curve import curve_in_words
from nas.final.statistics import wilson_interval
from nas.numbers import millions, percent, percent_range, plural, times, whole
from nas.report import overview, words
from nas.report.tested import last_final, summary
from nas.report.words import last_epoch
from nas.study.records import Outcome, StudyRecord, StudySettings, TrialRecord, training_in_words

_LONGEST = 500  # characters of a text from elsewhere


def code(text: object) -> str:
    """A text from elsewhere as one code span: no line break, no markup."""
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    plain = " ".join(plain.split())[:_LONGEST] or " "
    if "`" not in plain:
        return f"`{plain}`"
    fence = "`" * (max(map(len, re.findall("`+", plain))) + 1)
    return f"{fence} {plain} {fence}"  # the spaces are no part of it


def study_note(study: StudyRecord, *, report: str | None, model: Sequence[str] = ()) -> str:
    """What was asked and found, how sure that is, and with which settings.

    Args:
        study: as it is now.
        report: address of its report; None: there is none yet.
        model: addresses of the files of its final training.
    """
    s = study.settings
    facts = [
        f"dataset {code(s.dataset)}: images of {code(s.input)}, {whole(s.train_images)} to train "
        f"on, {whole(s.validation_images)} to compare designs by",
        f"limits: {words.listed([*_limits(s)])}",
        f"runs of {plural(s.epochs, 'epoch')} in {s.precision}",
        *(f"choices for {code(name)}: {code(values)}" for name, values in s.tuning.items()),
        *(["command " + code(study.command)] if study.command else []),
        *(f"note {code(note)}" for note in study.notes),
    ]
    caution = overview.caution(study)
    if report is None:
        link = f"No report has been written yet: {code(f'nas report --study {study.name}')} does."
    else:
        link = f"[**Report of this study**]({report})"
    final = last_final(study)
    parts = [
        f"**Asked:** {_plain(overview.asked(study))}",
        f"**Found:** {_plain(overview.found(study))}",
        *([_plain(caution)] if caution else []),
        *([f"**Final training:** {_plain(summary(final))}"] if final else []),
        *(_plain(sentence) for sentence in overview.cost(study)[:1]),
        link,
        *([_model(model)] if model else []),
        "\n".join(f"- {fact}" for fact in facts),
    ]
    return "\n\n".join(parts)


def trial_note(trial: TrialRecord, settings: StudySettings, *, curve: str) -> str:
    """The outcome of a trial with its reason, the design, its size and its learning curve.

    Args:
        trial: as it is now.
        settings: of its study.
        curve: address of the picture of its learning curve.
    """
    facts = []
    if trial.parameters is not None:
        share = trial.parameters / settings.limits.max_parameters
        facts.append(f"{whole(trial.parameters)} parameters ({share:.1%} of the budget)")
    if trial.mult_adds is not None:
        facts.append(f"{millions(trial.mult_adds)} mult-adds per image")
    if trial.training:
        facts.append(f"trained with {code(training_in_words(trial.training))}")
    if trial.seconds is not None:
        on = f" on {code(trial.device)}" if trial.device else ""
        facts.append(f"{words.duration(trial.seconds)} of training{on}")
    if trial.retries:
        facts.append(f"taken over {times(trial.retries)} from a worker that was gone")
    parts = [_outcome(trial, settings)]
    if trial.architecture is not None:
        preset = f", the known design {code(trial.preset)}" if trial.preset else ""
        in_words = words.design_in_words(trial.architecture)
        parts.append(f"**{trial.architecture}**{preset}: {in_words}.")
    if facts:
        parts.append("\n".join(f"- {fact}" for fact in facts))
    if trial.curve:
        parts.append(f"![Validation accuracy: {curve_in_words(trial.curve)}]({curve})")
    return "\n\n".join(parts)


def _outcome(trial: TrialRecord, settings: StudySettings) -> str:
    epoch = last_epoch(trial)
    run = f"{whole(epoch)} of {plural(settings.epochs, 'epoch')}"
    reason = f": {code(trial.reason)}" if trial.reason else ""
    match trial.outcome:
        case Outcome.TRAINED:
            return f"**Trained to the end**, {_accuracy(trial, settings)}."
        case Outcome.STOPPED_EARLY:
            return f"**Stopped early** after {run}, {_accuracy(trial, settings)}."
        case Outcome.OVER_BUDGET:
            excess = words.listed(_excess(trial, settings))
            return f"**Over budget**, so infeasible and never built: {excess}."
        case Outcome.DUPLICATE:
            return "**Duplicate**, never built: an earlier trial has the same network."
        case Outcome.DIVERGED:
            return f"**Diverged** after {run}{reason}."
        case Outcome.OUT_OF_MEMORY:
            return f"**Out of memory**{reason}."
        case Outcome.FAILED:
            return f"**Failed**{reason}."
    if trial.finished is not None:
        return "**Ended without an outcome**: not by a search of nas."
    if trial.started is not None:
        return f"**In training**: {run} done."
    return "**Queued**: a search takes it next."


def _accuracy(trial: TrialRecord, settings: StudySettings) -> str:
    value, images = trial.val_accuracy, settings.validation_images
    if value is None or not 0 <= value <= 1 or images < 1:
        return f"validation accuracy {value}"
    interval = wilson_interval(value, images)
    return (
        f"validation accuracy {percent(value)} "
        f"(95% interval {percent_range(interval.low, interval.high)})"
    )


def _limits(settings: StudySettings) -> list[str]:
    limits = settings.limits
    said = [f"at most {whole(limits.max_parameters)} parameters"]
    if limits.max_mult_adds is not None:
        said.append(f"at most {whole(limits.max_mult_adds)} mult-adds")
    return said


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


def _model(addresses: Sequence[str]) -> str:
    links = [f"[{address.rsplit('/', 1)[-1]}]({address})" for address in addresses]
    return f"**Exported model** of the final training: {words.listed(links)}"


def _plain(text: str) -> str:
    """A sentence, which may hold a name from elsewhere, without what Markdown would act on."""
    return re.sub(r"([\\`*_\[\]<>#|~!&])", r"\\\1", " ".join(text.split()))
