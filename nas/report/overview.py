"""What was asked of a study and found, how sure that is and what it cost, in sentences."""

from collections import Counter
from statistics import median

from nas.counting import COSTS, Cost
from nas.devices import KEPT_BACK
from nas.final.records import FinalDesign
from nas.report.tested import last_final
from nas.report.words import (
    NOT_ENDED,
    design_in_words,
    images_in_words,
    interval_of,
    last_epoch,
    listed,
    said_by_searches,
    subset_in_words,
    where_it_stands,
)
from nas.search.expected import expected_best
from nas.study.records import TIME_UP, Outcome, StudyRecord, TrialRecord, training_in_words
from nas.text import duration, percent, plural, whole


def asked(study: StudyRecord) -> str:
    """What the study was asked to find, and how designs were compared."""
    s = study.settings
    part = plural(s.train_images, "training image") if s.subset == 1 else subset_in_words(study)
    trained = {0: "none was", 1: "1 was"}.get(study.trained, f"{whole(study.trained)} were")
    return (
        f"The most accurate residual network for {images_in_words(study)} with {s.within}"
        f"{f', for {study.target} ({KEPT_BACK})' if study.target else ''}. "
        f"Designs train for up to {plural(s.epochs, 'epoch')} on {part} and are compared on "
        f"{plural(s.validation_images, 'validation image')}; {trained} trained."
    )


def searched(study: StudyRecord) -> str:
    """How designs were proposed, compared and stopped, over all searches; empty if none says."""
    used = {
        name: said_by_searches(study, name) for name in ("objectives", "sampler", "pruner", "seed")
    }
    choices = [
        f"the {name if len(values) == 1 else name + 's'} {listed(values)}"
        for name in ("sampler", "pruner", "seed")
        if (values := used[name])
    ]
    sentences = []
    if choices:
        sentences.append(
            f"{plural(len(study.searches), 'search', 'searches')} with {listed(choices)}."
        )
    for objectives in used["objectives"]:
        aim = (
            "the most accurate design within the limits"
            if "," not in objectives
            else "the best design of every size up to the limit, the Pareto front"
        )
        sentences.append(f"--objectives {objectives}: {aim}.")
    if study.settings.tuning:
        names = listed([name.replace("_", " ") for name in study.settings.tuning])
        sentences.append(f"Each trial also chooses its own {names} (--tune).")
    return " ".join(sentences)


def found(study: StudyRecord) -> str:
    """The incumbent, or why there is none."""
    best = study.incumbent
    if best is None:
        return nothing_found(study)
    text = f"Trial {best.number}" + (f", the known design {best.preset}" if best.preset else "")
    if best.architecture is not None:
        text += f": {design_in_words(best.architecture)}"
    if best.val_accuracy is None:
        return f"{text}. Its validation accuracy was not recorded."
    text += f". It reaches a validation accuracy of {percent(best.val_accuracy)}"
    interval = interval_of(study, best)
    if interval is not None:
        text += f" (95% interval {percent(interval.low)} to {percent(interval.high)})"
    if best.training:
        text += f", trained with {training_in_words(best.training)},"
    size = [f"{cost.about(value)} {cost.per}".rstrip() for cost, value in costs_of(best, study)]
    size += [words] if (words := best.latency_in_words) else []
    return f"{text} with {listed(size)}." if size else f"{text}."


def expected(study: StudyRecord) -> str | None:
    """The best design by what all trained ones together say, None where they are too few."""
    best = expected_best(study)
    if best is None:
        return None
    same = study.incumbent is not None and best.trial.number == study.incumbent.number
    is_best = "it is" if same else "the best is"
    return f"By the Gaussian process fitted to all designs, {is_best} {best}."


def nothing_found(study: StudyRecord) -> str:
    """Why a study has no incumbent."""
    if not study.trials:
        return "The study has no trials yet."
    if study.trained:
        return (
            f"No design was trained to the last epoch yet ({whole(study.trained)} stopped early)."
        )
    text = f"No design was trained. {_sentence_of_outcomes(study)}"
    if set(study.outcomes) != {Outcome.OVER_BUDGET}:
        return text
    left, within = list(study.trials), ""
    for name, most in study.settings.limits.items():
        cost = COSTS[name]
        values = [value for t in left if (value := getattr(t, name)) is not None]
        if values and min(values) > most:
            return (
                f"{text} The smallest proposal{within} has {cost.about(min(values))}; the "
                f"{cost.limit} is {cost.rounded(most)}."
            )
        left = [t for t in left if (getattr(t, name) or 0) <= most]
        within += f"{' and' if within else ' within'} the {cost.limit}"
    return text


def costs_of(design: TrialRecord | FinalDesign, study: StudyRecord) -> list[tuple[Cost, int]]:
    """What a design costs, as far as it is shown and known."""
    return [
        (cost, value)
        for cost in study.shown_costs
        if (value := getattr(design, cost.name)) is not None
    ]


def caution(study: StudyRecord) -> str | None:
    """Why the incumbent's accuracy is no promise, None without an incumbent."""
    if study.incumbent is None:
        return None
    tries = len(study.ranking)
    images = f"the {plural(study.settings.validation_images, 'validation image')}"
    chosen = (
        f"it is the best of {whole(tries)} designs on {images}, and choosing the best also "
        "selects luck, so it is optimistic; the interval does not correct for that choice"
        if tries > 1
        else f"it comes from one run with one seed on {images}"
    )
    text = f"Read this accuracy with care: {chosen}. A search reads no test image"
    if last_final(study) is not None:
        return f"{text}; the accuracy on unseen images is under Final training."
    return (
        f"{text}: the design's accuracy on unseen images is still to be measured, with several "
        "seeds (nas final)."
    )


def cost(study: StudyRecord) -> list[str]:
    """What the study spent, one sentence each."""
    sentences = [_sentence_of_outcomes(study)] if study.trials else []
    if stopped_by_pruner(study):
        full = study.trained * study.settings.epochs
        saved = epochs_saved(study)
        sentences.append(
            f"Stopping early saved {whole(saved)} of {plural(full, 'epoch')} ({saved / full:.0%})."
        )
    seconds = training_seconds(study)
    if seconds is not None:
        sentences.append(
            f"Training took {duration(seconds)}, summed over the search's runs: "
            f"{device_minutes(study)}."
        )
    rates = [t.images_per_second for t in study.trials if t.images_per_second is not None]
    if devices(study):
        speed = f", at a median of {whole(round(median(rates)))} images/s" if rates else ""
        sentences.append(f"It ran on {listed(devices(study))}{speed}.")
    return sentences


def epochs_saved(study: StudyRecord) -> int:
    """Epochs that were not trained because a run was stopped early by the pruner."""
    stopped = stopped_by_pruner(study)
    return sum(max(0, study.settings.epochs - last_epoch(trial)) for trial in stopped)


def stopped_by_pruner(study: StudyRecord) -> list[TrialRecord]:
    """The trials that were stopped early, but not by the time limit of the search."""
    stopped = (t for t in study.trials if t.outcome is Outcome.STOPPED_EARLY)
    return [trial for trial in stopped if trial.reason != TIME_UP]


def training_seconds(study: StudyRecord) -> float | None:
    """Time spent in training, summed over all trials; None if no trial says."""
    seconds = [t.seconds for t in study.trials if t.seconds is not None]
    return sum(seconds) if seconds else None


def device_minutes(study: StudyRecord) -> str:
    """Minutes of training by the kind of device: `3.3 GPU-minutes and 0.5 CPU-minutes`.

    A run counts in full, whatever else its device did at the same time, and with all its threads.
    """
    spent: dict[str, float] = {}
    for trial in study.trials:
        if trial.seconds is not None:
            device = (trial.device or "").lower()
            kind = "CPU-minutes" if device.startswith("cpu") else "GPU-minutes"
            kind = kind if device else "minutes on an unknown device"
            spent[kind] = spent.get(kind, 0.0) + trial.seconds / 60
    return listed(
        [
            f"{minutes:,.2g} {kind}" if minutes < 10 else f"{minutes:,.0f} {kind}"
            for kind, minutes in spent.items()
        ]
    )


def devices(study: StudyRecord) -> list[str]:
    """The devices that trained, each once."""
    return list(dict.fromkeys(t.device for t in study.trials if t.device is not None))


def _sentence_of_outcomes(study: StudyRecord) -> str:
    outcomes = study.outcomes
    others = Counter(where_it_stands(trial) for trial in study.trials)
    stopped = len(stopped_by_pruner(study))
    phrases = {
        "trained to the last epoch": outcomes[Outcome.TRAINED],
        "stopped early": stopped,
        "stopped at the time limit": outcomes[Outcome.STOPPED_EARLY] - stopped,
        "over the budget": outcomes[Outcome.OVER_BUDGET],
        "that repeated an earlier design": outcomes[Outcome.DUPLICATE],
        "diverged": outcomes[Outcome.DIVERGED],
        "out of memory": outcomes[Outcome.OUT_OF_MEMORY],
        "failed": outcomes[Outcome.FAILED] - study.interrupted,
        "interrupted and queued again": study.interrupted,
        **{words: others[words] for words in NOT_ENDED},
    }
    parts = [f"{whole(trials)} {phrase}" for phrase, trials in phrases.items() if trials]
    return f"{plural(len(study.trials), 'trial')}: {listed(parts)}."
