"""A study in words: the sentences of the report, as plain text."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from nas.architecture import Architecture
from nas.report.tables import UNFINISHED, last_epoch
from nas.statistics import Interval, difference_interval, wilson_interval
from nas.study.records import Outcome, StudyRecord, TrialRecord, training_in_words
from nas.text import are, millions, percent, plural, times, whole

_SIZES = {"parameters": "parameters", "mult_adds": "mult-adds"}


def duration(seconds: float) -> str:
    """A time span, to about two significant parts; 0 where a clock was set back meanwhile."""
    seconds = max(0.0, seconds)
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{whole(minutes // 60)} h {minutes % 60} min"


def listed(items: Sequence[object], word: str = "and") -> str:
    """Items as in a sentence: `a, b and c`."""
    texts = [str(item) for item in items]
    return f" {word} ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def shortened(items: Sequence[str], most: int = 20) -> list[str]:
    """The first items, and how many more there are."""
    rest = len(items) - most
    return [*items[:most], f"{whole(rest)} more"] if rest > 0 else list(items)


def interval_of(study: StudyRecord, trial: TrialRecord) -> Interval | None:
    """The 95% interval of a trial's accuracy on the validation images, None if not measured."""
    if trial.val_accuracy is None or study.settings.validation_images < 1:
        return None
    return wilson_interval(trial.val_accuracy, study.settings.validation_images)


def are_close(study: StudyRecord, better: TrialRecord, worse: TrialRecord) -> bool:
    """Whether the validation images alone leave open which of two designs is better."""
    images = study.settings.validation_images
    shares = (better.val_accuracy, worse.val_accuracy)
    if shares[0] is None or shares[1] is None:
        return False
    return difference_interval(shares[0], images, shares[1], images).low <= 0


def design_in_words(architecture: Architecture) -> str:
    """N, B, C, F, K and P of a design, spelled out."""
    a = architecture
    projected = [i for i, projection in enumerate(a.projections) if projection]
    shortcuts = (
        f"projection shortcuts with {_kernels([a.shortcut_kernels[i] for i in projected])} "
        f"kernels (K) in {'stage' if len(projected) == 1 else 'stages'} "
        f"{listed([i + 1 for i in projected])}"
        if projected
        else "no projection shortcut (K has no effect)"
    )
    text = (
        f"{plural(a.stages, 'stage')} (N) of {listed(a.blocks)} "
        f"{'block' if set(a.blocks) == {1} else 'blocks'} (B) "
        f"with {listed(a.channels)} channels (C); "
        f"{_kernels(a.kernels)} kernels (F); {shortcuts}; average pool {a.pool}x{a.pool} (P)"
    )
    if a.strides != (1,) + (2,) * (a.stages - 1):
        text += f"; strides {listed(a.strides)}"
    if a.stem_channels != a.channels[0] or a.stem_bias:
        text += f"; stem of {plural(a.stem_channels, 'channel')}"
        text += " with bias" if a.stem_bias else ""
    if not a.shortcut_norm:
        text += "; shortcuts without BN"
    return text


def asked(study: StudyRecord) -> str:
    """What the study was asked to find, and how designs were compared."""
    s = study.settings
    limit = f"at most {whole(s.limits.max_parameters)} parameters"
    if s.limits.max_mult_adds is not None:
        limit += f" and {millions(s.limits.max_mult_adds)} mult-adds"
    part = plural(s.train_images, "training image") if s.subset == 1 else subset_in_words(study)
    trained = {0: "none was", 1: "1 was"}.get(study.trained, f"{whole(study.trained)} were")
    return (
        f"The most accurate residual network for {s.dataset} with {limit}. Designs train for up to "
        f"{plural(s.epochs, 'epoch')} on {part} and are compared on {whole(s.validation_images)} "
        f"validation images; {trained} trained."
    )


def searched(study: StudyRecord) -> str:
    """How designs were proposed, compared and stopped, over all searches; empty if none says."""
    used = {
        name: said_by_searches(study, name) for name in ("objectives", "sampler", "pruner", "seed")
    }
    told = [
        f"the {name if len(values) == 1 else name + 's'} {listed(values)}"
        for name in ("sampler", "pruner", "seed")
        if (values := used[name])
    ]
    sentences = []
    if told:
        sentences.append(
            f"{plural(len(study.searches), 'search', 'searches')} with {listed(told)}."
        )
    for objectives in used["objectives"]:
        aim = (
            "the most accurate design within the budget"
            if "," not in objectives
            else "the best design of every size up to the budget, the Pareto front"
        )
        sentences.append(f"--objectives {objectives}: {aim}.")
    if study.settings.tuning:
        names = listed([name.replace("_", " ") for name in study.settings.tuning])
        sentences.append(f"Each trial also chooses its own {names} (--tune).")
    return " ".join(sentences)


def said_by_searches(study: StudyRecord, name: str) -> list[str]:
    """What the searches of a study say of one thing, each value once, in order."""
    values = [search[name] for search in study.searches if search.get(name) is not None]
    texts = [",".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in values]
    return list(dict.fromkeys(texts))


def subset_in_words(study: StudyRecord) -> str:
    """Which part of the training images is used."""
    subset = study.settings.subset
    return "all training images" if subset == 1 else f"{100 * subset:.4g}% of the training images"


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
    size = []
    if best.parameters is not None:
        size.append(f"{whole(best.parameters)} parameters")
    if best.mult_adds is not None:
        size.append(f"{millions(best.mult_adds)} mult-adds per image")
    return f"{text} with {listed(size)}." if size else f"{text}."


def nothing_found(study: StudyRecord) -> str:
    """Why a study has no incumbent."""
    if not study.trials:
        return "Nothing yet: the study has no trials."
    if study.trained:
        return (
            "Nothing yet: no design was trained to the last epoch "
            f"({whole(study.trained)} stopped early)."
        )
    text = f"Nothing: no design was trained. {_sentence_of_outcomes(study)}"
    limits = study.settings.limits
    sizes = [t.parameters for t in study.trials if t.parameters is not None]
    if set(study.outcomes) != {Outcome.OVER_BUDGET} or not sizes:
        return text
    if min(sizes) > limits.max_parameters:
        return (
            f"{text} The smallest proposal has {whole(min(sizes))} parameters; the budget is "
            f"{whole(limits.max_parameters)}."
        )
    mult_adds = [
        t.mult_adds
        for t in study.trials
        if t.mult_adds is not None and (t.parameters or 0) <= limits.max_parameters
    ]
    if not mult_adds or limits.max_mult_adds is None:
        return text
    return (
        f"{text} Of the proposals within the budget of parameters the one with the fewest "
        f"mult-adds has {millions(min(mult_adds))}; the limit is {millions(limits.max_mult_adds)}."
    )


def caution(study: StudyRecord) -> str | None:
    """Why the incumbent's accuracy is no promise, None without an incumbent."""
    if study.incumbent is None:
        return None
    tries = len(study.ranking)
    images = f"the {plural(study.settings.validation_images, 'validation image')}"
    chosen = (
        f"it is the best of {whole(tries)} designs on {images}, and choosing the best also "
        "chooses good luck, so it is optimistic; the interval does not correct for that choice"
        if tries > 1
        else f"it comes from one run with one seed on {images}"
    )
    text = f"Read this accuracy with care: {chosen}. A search reads no test image"
    if study.readings:
        return f"{text}; what is known of unseen images stands under Final training."
    return (
        f"{text}: what the design does on unseen images is still to be measured, with several "
        "seeds (nas final)."
    )


def readings(study: StudyRecord) -> str:
    """How often the test images were read, and when."""
    count = len(study.readings)
    if count == 0:
        return "No test image of this study has been read."
    text = f"The test images of this study were read {times(count)}"
    if count > 1:
        dates = listed([reading.began[:10] for reading in study.readings])
        text += (
            f" (on {dates}): what was chosen after the first reading may be chosen by it, and the "
            "later accuracies may be too high"
        )
    return f"{text}."


def cost(study: StudyRecord) -> list[str]:
    """What the study spent, one sentence each."""
    sentences = [_sentence_of_outcomes(study)] if study.trials else []
    stopped = [t for t in study.trials if t.outcome is Outcome.STOPPED_EARLY]
    if stopped:
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
    """Epochs that were not trained because a run was stopped early."""
    stopped = [t for t in study.trials if t.outcome is Outcome.STOPPED_EARLY]
    return sum(max(0, study.settings.epochs - last_epoch(trial)) for trial in stopped)


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


def ranking_caption(study: StudyRecord) -> str:
    """How far apart the best designs are, given how few images judge them."""
    best = study.incumbent
    if best is None or interval_of(study, best) is None or len(study.ranking) < 2:
        return "The trained designs, best first; of equals, the earlier."
    close = sum(are_close(study, best, trial) for trial in study.ranking)
    tell = (
        "The 95% interval of every other design's difference to the best leaves out 0."
        if close == 1
        else f"{whole(close)} designs, the best included, are too close for the validation images "
        "alone to tell them apart: the 95% interval of their difference to the best holds 0."
    )
    return f"The ten best at most, best first; of equals, the earlier. {tell}"


def curves_shown(study: StudyRecord, shown: int) -> str:
    """Which learning curves are drawn, as a further sentence; empty where all are."""
    measured = sum(bool(trial.curve) for trial in study.trials)
    if shown == measured:
        return ""
    return (
        f" Of {plural(measured, 'curve')} {whole(shown)} {are(shown)} drawn: those of the best "
        "designs, and others taken evenly over the search."
    )


def front_caption(study: StudyRecord) -> str:
    """What a Pareto front is, and what this one is not."""
    how = (
        "Designs of every size were proposed for it"
        if any("," in objectives for objectives in said_by_searches(study, "objectives"))
        else "The search was for accuracy alone and did not look for small designs"
    )
    return (
        "The smallest designs for what they reach: each is more accurate than all designs trained "
        f"to the end that have no more {_SIZES[study.front_size]}. {how}; neighbours that hardly "
        "differ may change places."
    )


def choices_in_words(choices: object) -> str:
    """The choices of a search space for one field: plain lists, as a study records them."""
    if not isinstance(choices, Sequence) or isinstance(choices, str):
        return str(choices)
    if choices and all(isinstance(stage, Sequence) for stage in choices):
        stages = [choices_in_words(stage) for stage in choices]
        if len(set(stages)) == 1:
            return stages[0] + (" in every stage" if len(stages) > 1 else "")
        return "; ".join(f"stage {i}: {stage}" for i, stage in enumerate(stages, start=1))
    steps = {b - a for a, b in pairwise(choices)}
    if len(choices) > 4 and len(steps) == 1:
        return f"{choices[0]} to {choices[-1]} in steps of {steps.pop()}"
    return listed(choices, "or")


def _sentence_of_outcomes(study: StudyRecord) -> str:
    outcomes = study.outcomes
    unfinished = len(study.trials) - outcomes.total()
    phrases = {
        "trained to the last epoch": outcomes[Outcome.TRAINED],
        "stopped early": outcomes[Outcome.STOPPED_EARLY],
        "over the budget": outcomes[Outcome.OVER_BUDGET],
        "that repeated an earlier design": outcomes[Outcome.DUPLICATE],
        "diverged": outcomes[Outcome.DIVERGED],
        "out of memory": outcomes[Outcome.OUT_OF_MEMORY],
        "failed": outcomes[Outcome.FAILED] - study.interrupted,
        "interrupted and queued again": study.interrupted,
        f"{UNFINISHED} (running, or ended without saying)": unfinished,
    }
    parts = [f"{whole(trials)} {phrase}" for phrase, trials in phrases.items() if trials]
    return f"{plural(len(study.trials), 'trial')}: {listed(parts)}."


def _kernels(kernels: Sequence[int]) -> str:
    sizes = [f"{kernel}x{kernel}" for kernel in kernels]
    return sizes[0] if len(set(sizes)) == 1 else listed(sizes)
