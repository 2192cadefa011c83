"""Who teaches in a final training, and what that brought."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import torch

from nas.architecture import PRESETS, Architecture
from nas.final.choosing import Entry, correct_on_validation
from nas.final.events import OnEvent
from nas.final.records import Distilled, FinalDesign
from nas.final.request import ENSEMBLE, LARGER, TRAIN
from nas.final.runs import Run, RunResult
from nas.final.workers import FinalFailed, FinalRuns
from nas.statistics import difference
from nas.text import plural
from nas.training.teacher import Distillation

_TEACHER, _DISTILLED = "teacher ", " distilled"  # in the names of runs


def teacher_of(asked: str, best: Entry, seeds: Sequence[int]) -> tuple[Run, ...]:
    """The runs whose networks teach.

    Args:
        asked: as in `FinalRequest.teacher`, but not none.
        best: the design that was chosen, trained with all seeds; or what came of its distillation.
        seeds: of the final training.
    """
    name = best.name.removesuffix(_DISTILLED)
    if asked == ENSEMBLE:
        return tuple(Run(name, best.architecture, seed, TRAIN) for seed in seeds)
    if asked == LARGER:
        larger = Run(f"{_TEACHER}{name} widened", widened(best.architecture), seeds[0], TRAIN)
        return (larger,)
    return (Run(f"{_TEACHER}{asked}", PRESETS[asked], seeds[0], TRAIN),)


def widened(architecture: Architecture) -> Architecture:
    """The design with twice the channels: about four times the parameters and mult-adds."""
    return replace(
        architecture,
        channels=tuple(2 * channels for channels in architecture.channels),
        stem_channels=2 * architecture.stem_channels,
    )


def taught(entry: Entry, teacher: tuple[Run, ...]) -> Entry:
    """The design, to be trained with this teacher."""
    return replace(entry, name=entry.name + _DISTILLED, teacher=teacher)


def distill(
    best: Entry,
    final: FinalRuns,
    seeds: Sequence[int],
    results: list[RunResult],
    on_event: OnEvent,
) -> Entry:
    """Trains a teacher, where it is not trained yet, and from it a design once more.

    Args:
        best: the design.
        final: what trains, with the teacher that is asked for.
        seeds: of the final training.
        results: of all runs; what comes of the new ones is added.
        on_event: gets what happens.

    Returns:
        The design with its teacher.

    Raises:
        FinalFailed: the teacher cannot be trained, or the workers died.
        OSError: a folder cannot be written.
        KeyboardInterrupt: on Ctrl-C or SIGTERM.
    """
    teacher = teacher_of(final.request.teacher, best, seeds)
    final.train_more(teacher, results, "for the teacher", on_event)
    for result in results:
        if result.run in teacher and result.failed:
            raise FinalFailed(f"{result.run.name} failed: {result.failed}; try another --teacher")
    entry = taught(best, teacher)
    what = f"of {best.name} that learn from {in_words(teacher)}"
    final.train_more(entry.runs(seeds, TRAIN), results, what, on_event)
    return entry


def in_words(teacher: Sequence[Run]) -> str:
    """As in ``3 networks of trial 4``."""
    return f"{plural(len(teacher), 'network')} of {teacher[0].name.removeprefix(_TEACHER)}"


def with_teacher(
    design: FinalDesign, entry: Entry, results: Sequence[RunResult], labels_I: torch.Tensor
) -> FinalDesign:
    """The design with what it learned from, if it had a teacher, and its gain where it is known.

    Args:
        design: what came of the entry.
        entry: that was trained.
        results: of all runs.
        labels_I: of the validation images.
    """
    if not entry.teacher:
        return design
    plain = entry.name.removesuffix(_DISTILLED)
    both = [[r for r in results if r.run.name == name] for name in (entry.name, plain)]
    found = [correct_on_validation(own, labels_I) if own else None for own in both]
    gain = None
    if found[0] is not None and found[1] is not None:
        gain = difference(found[0], found[1])
    return replace(
        design,
        distilled=Distilled(teacher=in_words(entry.teacher), gain=gain, **asdict(Distillation())),
    )
