"""Words that several parts of the report share, as plain text."""

from collections.abc import Sequence
from pathlib import Path

from nas.architecture import Architecture
from nas.data.catalogue import OWN_FOLDER
from nas.statistics import Estimate, wilson_interval
from nas.study.records import TIME_UP, Outcome, StudyRecord, TrialRecord
from nas.text import plural

WITHOUT_OUTCOME = ("queued", "running", "ended without an outcome")
"""The status of a trial without an outcome, as it is shown."""
QUEUED_AGAIN = "interrupted and queued again"
"""The status of a trial that failed, but whose design did not."""


def outcome_name(outcome: Outcome) -> str:
    """An outcome as it is shown."""
    return outcome.replace("_", " ")


def status(trial: TrialRecord) -> str:
    """What became of a trial so far, as it is shown: its outcome, or why it has none."""
    if trial.queued_again:
        return QUEUED_AGAIN
    if trial.outcome is not None:
        return outcome_name(trial.outcome)
    queued, running, ended = WITHOUT_OUTCOME
    if trial.finished is not None:
        return ended
    return queued if trial.started is None else running


def is_time_up(trial: TrialRecord) -> bool:
    """Whether the time limit of the search ended a run, and not the pruner."""
    return trial.outcome is Outcome.STOPPED_EARLY and trial.reason == TIME_UP


TRAINED = outcome_name(Outcome.TRAINED)
STOPPED = outcome_name(Outcome.STOPPED_EARLY)


def listed(items: Sequence[object], word: str = "and") -> str:
    """Items as in a sentence: `a, b and c`."""
    texts = [str(item) for item in items]
    return f" {word} ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def last_epoch(trial: TrialRecord) -> int:
    """The last epoch that was measured, 0 if none."""
    return max((epoch for epoch, _ in trial.curve), default=0)


def interval_of(study: StudyRecord, trial: TrialRecord) -> Estimate | None:
    """The 95% interval of a trial's accuracy on the validation images, None if not measured."""
    if trial.val_accuracy is None or study.settings.validation_images < 1:
        return None
    return wilson_interval(trial.val_accuracy, study.settings.validation_images)


def search_values(study: StudyRecord, name: str) -> list[str]:
    """The values that the searches of a study recorded under a name, each once, in order."""
    values = [search[name] for search in study.searches if search.get(name) is not None]
    texts = [",".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in values]
    return list(dict.fromkeys(texts))


def images_in_words(study: StudyRecord) -> str:
    """The dataset; of a person's own images, the name of their folder."""
    folder = Path(next(iter(search_values(study, "data_dir")[-1:]), "")).name
    own = study.settings.dataset == OWN_FOLDER and folder
    return f"the images in the folder {folder}" if own else study.settings.dataset


def subset_in_words(study: StudyRecord) -> str:
    """Which part of the training images is used."""
    subset = study.settings.subset
    return "all training images" if subset == 1 else f"{100 * subset:.4g}% of the training images"


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


def _kernels(kernels: Sequence[int]) -> str:
    sizes = [f"{kernel}x{kernel}" for kernel in kernels]
    return sizes[0] if len(set(sizes)) == 1 else listed(sizes)
