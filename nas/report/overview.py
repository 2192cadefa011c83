"""What was asked of a study and found, how sure that is and what it cost, in sentences."""

from collections import Counter
from dataclasses import dataclass
from statistics import median

from nas.counting import Cost
from nas.devices import KEPT_BACK
from nas.final.records import FinalDesign, FinalRecord
from nas.report.words import (
    QUEUED_AGAIN,
    STOPPED,
    TRAINED,
    WITHOUT_OUTCOME,
    design_in_words,
    images_in_words,
    interval_of,
    is_time_up,
    last_epoch,
    listed,
    outcome_name,
    search_values,
    status,
    subset_in_words,
)
from nas.search.expected import expected_best
from nas.study.records import Outcome, StudyRecord, TrialRecord, training_in_words
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
        name: search_values(study, name) for name in ("objectives", "sampler", "pruner", "seed")
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
        return f"No design was trained to the last epoch yet ({listed(stopping(study).phrases)})."
    return f"No design was trained. {_sentence_of_outcomes(study)}"


def costs_of(design: TrialRecord | FinalDesign, study: StudyRecord) -> list[tuple[Cost, int]]:
    """What a design costs, as far as it is shown and known."""
    return [
        (cost, value)
        for cost in study.shown_costs
        if (value := getattr(design, cost.name)) is not None
    ]


def caution(study: StudyRecord, final: FinalRecord | None) -> str | None:
    """Why the incumbent's accuracy is no promise, None without an incumbent.

    `final` is what the last final training found.
    """
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
    if final is not None:
        return f"{text}; the accuracy on unseen images is under Final training."
    return (
        f"{text}: the design's accuracy on unseen images is still to be measured, with several "
        "seeds (nas final)."
    )


def cost(study: StudyRecord) -> list[str]:
    """What the study spent, one sentence each."""
    sentences = [_sentence_of_outcomes(study)] if study.trials else []
    if (stopped := stopping(study)).by_pruner:
        sentences.append(f"Stopping early saved {stopped.saving}.")
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


@dataclass(frozen=True, slots=True)
class Stopping:
    """The runs that ended before their last epoch, and what that saved."""

    by_pruner: tuple[TrialRecord, ...]
    at_time_limit: int  # of the search
    saved: int  # epochs, by the pruner
    of: int  # epochs, had every run gone on to the last one

    @property
    def phrases(self) -> list[str]:
        """As in 3 stopped early, 1 stopped at the time limit; empty where none was."""
        stopped = {
            "stopped early": len(self.by_pruner),
            "stopped at the time limit": self.at_time_limit,
        }
        return [f"{whole(runs)} {how}" for how, runs in stopped.items() if runs]

    @property
    def saving(self) -> str:
        """As in 4 of 24 epochs (17%)."""
        return f"{whole(self.saved)} of {plural(self.of, 'epoch')} ({self.saved / self.of:.0%})"


def stopping(study: StudyRecord) -> Stopping:
    """Which runs the pruner stopped early, apart from those that the time limit ended."""
    stopped = [trial for trial in study.trials if trial.outcome is Outcome.STOPPED_EARLY]
    by_pruner = tuple(trial for trial in stopped if not is_time_up(trial))
    epochs = study.settings.epochs
    return Stopping(
        by_pruner=by_pruner,
        at_time_limit=len(stopped) - len(by_pruner),
        saved=sum(max(0, epochs - last_epoch(trial)) for trial in by_pruner),
        of=epochs * study.trained,
    )


def place_of_the_best(study: StudyRecord) -> tuple[int, int]:
    """Which of the trained designs, from 1, the best one was, and how many there are.

    Without a best one its place is 0.
    """
    trained = [t for t in study.trials if t.counts]
    best = study.incumbent
    return (1 + trained.index(best) if best else 0), len(trained)


def last_gain(study: StudyRecord) -> str:
    """When the best design came, and how many designs after it brought no gain."""
    best = study.incumbent
    if best is None:
        stopped = listed(stopping(study).phrases)
        return f"No design was trained to the end{f': {stopped}' if stopped else ''}."
    place, designs = place_of_the_best(study)
    after = designs - place
    if designs == 1:
        return f"One design was trained, that of trial {best.number}."
    if not after:
        return f"The last gain came with the last of {whole(designs)} designs, trial {best.number}."
    which = (
        f"The first of {whole(designs)} designs, trial {best.number}, was never beaten"
        if place == 1
        else f"The last gain came with design {whole(place)} of {whole(designs)}, trial "
        f"{best.number}"
    )
    return f"{which}; the {'one' if after == 1 else whole(after)} after it brought no gain."


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
    trials = Counter(status(trial) for trial in study.trials)
    phrases = {
        TRAINED: "trained to the last epoch",
        outcome_name(Outcome.OVER_BUDGET): "over the budget",
        outcome_name(Outcome.DUPLICATE): "that repeated an earlier design",
    }
    parts: list[str] = []
    for kind in (*map(outcome_name, Outcome), QUEUED_AGAIN, *WITHOUT_OUTCOME):
        if kind == STOPPED:
            parts += stopping(study).phrases
        elif trials[kind]:
            parts.append(f"{whole(trials[kind])} {phrases.get(kind, kind)}")
    return f"{plural(len(study.trials), 'trial')}: {listed(parts)}."
