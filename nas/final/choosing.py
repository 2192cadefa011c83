"""Which designs are trained in full, and which of them is chosen."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nas.architecture import PRESETS, Architecture, ImageInput
from nas.counting import count
from nas.errors import RequestError
from nas.final.records import BY_EXPECTATION, BY_SCORE, FinalDesign, Gain, Measured
from nas.final.references import DATASET, PUBLISHED
from nas.final.request import ALL, FinalRequest
from nas.final.runs import Run, RunResult
from nas.final.testing import Tested
from nas.runtime.precision import AUTO, Precision
from nas.search.expected import expected_accuracies
from nas.statistics import Correct, cannot_be_told_apart, difference
from nas.study.records import StudyRecord, TrialRecord
from nas.text import plural


@dataclass(frozen=True, slots=True)
class Entry:
    """A design that is trained, before anything is known of it."""

    name: str
    architecture: Architecture
    trial: TrialRecord | None  # None: a reference
    teacher: tuple[Run, ...] = ()  # trained before

    def runs(self, seeds: Sequence[int], on: str) -> list[Run]:
        """Its runs on a part of the images."""
        return [Run(self.name, self.architecture, seed, on, self.teacher) for seed in seeds]


def planned(
    study: StudyRecord, request: FinalRequest, precision: Precision, *, drop_duplicates: bool
) -> tuple[list[Entry], str]:
    """What to train, and its digest; or what a result that stands was made of.

    That is of the same request even if another device would choose another precision now, or an
    earlier version took the finalists by their scores.

    Args:
        study: that is searched.
        request: what is asked.
        precision: of the runs, on this device.
        drop_duplicates: whether of equal images one is trained or tested on.

    Raises:
        RequestError: as `entries_of`.
    """
    plans: dict[tuple[str, str], list[Entry]] = {}
    for by in (BY_EXPECTATION, BY_SCORE):
        entries = entries_of(study, request, by=by)
        keys = [entry.architecture.key for entry in entries]
        for one in (precision, *(Precision if request.precision == AUTO else ())):
            digest = request.digest(
                keys,
                images=study.settings.dataset_digest,
                precision=one,
                drop_duplicates=drop_duplicates,
            )
            plans.setdefault((by, digest), entries)
    standing = [
        (reading.result.get("finalists_by", BY_SCORE), reading.plan)
        for reading in study.readings
        if reading.ended is not None and not request.again
    ]
    plan = next((plan for plan in plans if plan in standing), next(iter(plans)))
    return plans[plan], plan[1]


def entries_of(
    study: StudyRecord, request: FinalRequest, *, by: str = BY_EXPECTATION
) -> list[Entry]:
    """The finalists, all different, in the order of the ranking, and then the references.

    A design that several trials have, where training is tuned, is that of the best of them. One of
    which nothing is expected keeps the place that its score gives it: it is not of the study's
    space, or not among the 150 best.

    Args:
        study: that is searched.
        request: how many finalists, and which references.
        by: whether the finalists are the designs of the highest expected accuracy
            (`nas.search.expected`), or of the highest score, which is partly luck.
            docs/proposals.md compares both.

    Raises:
        RequestError: no design was trained to the end, or a reference cannot read the images.
    """
    ranking = _best_of_each_design(study)
    order = expected_accuracies(study) if by == BY_EXPECTATION else []
    expected = [e.trial.architecture.key for e in order if e.trial.architecture is not None]
    places = {key: place for place, key in enumerate(dict.fromkeys(expected))}

    def place(key: str) -> float:
        if key in places:
            return places[key]
        return sum(_score(e.trial) > _score(ranking[key]) for e in order) - 0.5

    chosen = set(sorted(ranking, key=place)[: request.top])
    finalists = [
        Entry(f"trial {trial.number}", trial.architecture, trial)
        for key, trial in ranking.items()
        if key in chosen and trial.architecture is not None
    ]
    if not finalists:
        raise RequestError(
            f"--study: expected a study with a design trained to the end, got {study.name} with "
            f"none in {plural(len(study.trials), 'trial')}; continue the search"
        )
    teacher = [request.teacher] if request.teacher in PRESETS else []
    for option, names in (("--baseline", request.baselines), ("--teacher", teacher)):
        for name in names:
            try:
                count(PRESETS[name], study.settings.input)
            except ValueError as error:
                raise RequestError(
                    f"{option}: expected designs that can read {study.settings.input}, "
                    f"got {name}: {error}"
                ) from error
    return finalists + [Entry(name, PRESETS[name], None) for name in request.baselines]


def left_out(study: StudyRecord, finalists: Sequence[Entry]) -> list[str]:
    """Trials, one per design, that score higher than some finalist but are not finalists."""
    lowest = min(_score(entry.trial) for entry in finalists if entry.trial)
    keys = {entry.architecture.key for entry in finalists}
    ranking = _best_of_each_design(study)
    return [
        f"trial {trial.number}"
        for key, trial in ranking.items()
        if key not in keys and _score(trial) > lowest
    ]


def _best_of_each_design(study: StudyRecord) -> dict[str, TrialRecord]:
    """By the key of the design, in the order of the ranking."""
    best: dict[str, TrialRecord] = {}
    for trial in study.ranking:
        if trial.architecture is not None:
            best.setdefault(trial.architecture.key, trial)
    return best


def _score(trial: TrialRecord) -> float:
    return trial.val_accuracy or 0.0


def seeds_of(study: StudyRecord, number: int) -> tuple[int, ...]:
    """The smallest seeds from 1 on that no search of the study has used.

    With a seed of the search a design would owe part of its accuracy to the luck it was found by.
    """
    used = {study.seed, *(search.get("seed") for search in study.searches)}
    unused = (seed for seed in range(1, number + len(used) + 1) if seed not in used)
    return tuple(seed for seed, _ in zip(unused, range(number), strict=False))


def correct_on_validation(results: Sequence[RunResult], labels_I: torch.Tensor) -> Correct | None:
    """Which validation images each run gets right, (S, I); None if one failed."""
    if any(result.failed for result in results):
        return None
    return np.stack([result.correct(labels_I) for result in results])


def designs_of(
    entries: Sequence[Entry],
    results: Sequence[RunResult],
    labels_I: torch.Tensor,
    input: ImageInput,
    dataset: str,
) -> list[FinalDesign]:
    """The entries with what their runs reach on the validation images, in the same order."""
    designs = []
    for entry in entries:
        cost = count(entry.architecture, input)
        own = [result for result in results if result.run.name == entry.name]
        correct_SI = correct_on_validation(own, labels_I) if own else None
        failed = "; ".join(f"seed {r.run.seed}: {r.failed}" for r in own if r.failed)
        published = PUBLISHED.get(entry.name) if dataset == DATASET else None
        designs.append(
            FinalDesign(
                name=entry.name,
                architecture=entry.architecture,
                **dataclasses.asdict(cost),
                trial=entry.trial.number if entry.trial else None,
                search_accuracy=entry.trial.val_accuracy if entry.trial else None,
                validation=None if correct_SI is None else Measured.of(correct_SI),
                failed=failed or None,
                published=published.accuracy if published else None,
                source=published.source if published else None,
            )
        )
    return designs


def ranked(
    finalists: Sequence[FinalDesign], results: Sequence[RunResult], labels_I: torch.Tensor
) -> list[FinalDesign]:
    """The finalists by mean validation accuracy, best first, with those that may be the best.

    Of equals the one with fewer parameters comes first; those with a run that failed come last.
    """

    def correct(design: FinalDesign) -> Correct | None:
        own = [result for result in results if result.run.name == design.name]
        return correct_on_validation(own, labels_I)

    measured = [(d, c) for d in finalists if (c := correct(d)) is not None]
    if not measured:
        return list(finalists)
    may = cannot_be_told_apart([c for _, c in measured])
    kept = [replace(d, may_be_best=m) for (d, _), m in zip(measured, may, strict=True)]
    kept.sort(key=lambda d: (-d.validation.mean.value if d.validation else 0, d.parameters))
    return kept + [d for d in finalists if d.failed]


def best_run(runs: Sequence[RunResult], labels_I: torch.Tensor, on: str) -> int:
    """Which of a design's runs is exported: the one with the highest validation accuracy.

    The first of equals, and where the validation images were trained on, which says nothing then.
    """
    if on == ALL:
        return 0
    return max(range(len(runs)), key=lambda i: runs[i].correct(labels_I).mean())


def differences(results: Sequence[RunResult]) -> list[str]:
    """Notes on runs made on different devices or torch versions."""
    devices = sorted({result.device for result in results})
    versions = sorted({result.torch for result in results})
    return [
        f"the runs were not all made under the same conditions: {what}"
        for what, found in (
            ("on " + " and ".join(devices), devices),
            ("with torch " + " and ".join(versions), versions),
        )
        if len(found) > 1
    ]


def gain_over(chosen: str, reference: FinalDesign, look: Tested, *, alike: bool) -> Gain:
    """What the chosen design brings over a reference, on the same test images.

    Args:
        chosen: the design's name.
        reference: tested.
        look: what the test images showed.
        alike: whether the images are those of the reference's published accuracy.
    """
    assert reference.test is not None
    published = reference.published if alike else None
    return Gain(
        reference=reference.name,
        architecture=difference(look.correct[chosen], look.correct[reference.name]),
        recipe=None if published is None else reference.test.mean.value - published,
    )
