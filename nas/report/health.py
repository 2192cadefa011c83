"""The health of a search: what its records say about how it was set up, each with advice.

Computed from what the study keeps alone, so it is the same on any machine and for old studies.
"""

import functools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from nas.architecture import Architecture
from nas.counting import LIMITED, count
from nas.final.records import FinalRecord
from nas.report.overview import last_gain, place_of_the_best, stopping
from nas.report.trials import ties, ties_with_the_first
from nas.report.words import listed, search_values
from nas.search.candidates import Candidates
from nas.search.gp import Encoder, Floats, GaussianProcess, Kernel
from nas.search.pruners import make_pruner
from nas.search.replay import replay
from nas.search.request import PRUNERS
from nas.search.scores import normal_scores, predicted_ends
from nas.space import Choices, Limits, SearchSpace, space_from_table
from nas.statistics import visible_difference
from nas.study.chance import at_chance, chance_of
from nas.study.records import Outcome, StudyRecord, TrialRecord
from nas.text import percent, plural, points, share
from nas.values import LARGEST

_DRAWS = 250  # designs of the space, to see what is usual in it
_FEWEST = 20  # designs, below which most of it is luck
_BEST = 0.1  # share of the trained designs that count as the best
_CHANCE = 0.01  # of what would be reported of a search in which nothing is the matter
_MOST = 150  # of the newest designs or curves, which take a second to look at
_CURVES = 10  # complete runs, below which a replay says nothing
_FAILED = 0.1  # share of trials


class Level(StrEnum):
    """How much a finding matters."""

    PASS = "PASS"
    NOTE = "NOTE"
    WARNING = "WARNING"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, in a sentence, with advice where it is not well."""

    level: Level
    about: str
    sentence: str


def health(study: StudyRecord, final: FinalRecord | None = None) -> tuple[Finding, ...]:
    """What can be said of a search; empty for a study without a trial.

    Args:
        study: of the search.
        final: what its last final training found, for how far seeds differ.
    """
    if not study.trials:
        return ()
    space = _space(study)
    found = [*_learning(study), *_progress(study), *_noise(study, final), *_stopping(study)]
    if space is not None:
        runs = _at_full_length(study)
        found += [*_rejected(study, space), *_bounds(study, space, runs), *_surrogate(space, runs)]
    order = list(Level)[::-1]
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """Those that are not well."""
    return [finding for finding in findings if finding.level is not Level.PASS]


def _space(study: StudyRecord) -> SearchSpace | None:
    try:
        return space_from_table(study.settings.space, study.settings.input)
    except ValueError:  # of another version
        return None


def _learning(study: StudyRecord) -> Iterator[Finding]:
    """Runs that failed, or ended where guessing would."""
    ran = [t for t in study.trials if t.counts]
    broken = study.outcomes[Outcome.DIVERGED]
    failed = study.outcomes[Outcome.FAILED] - study.interrupted
    failed += study.outcomes[Outcome.OUT_OF_MEMORY]
    if failed > _FAILED * (len(ran) + failed):
        yield Finding(
            Level.WARNING,
            "failures",
            f"{plural(failed, 'trial')} failed or ran out of memory; the report's table of "
            "trials says why, and smaller limits or --workers 1 may help.",
        )
    measured = [t for t in ran if t.val_accuracy is not None]
    stuck = sum(at_chance(study, t) for t in measured) + broken
    runs = len(measured) + broken
    if not runs:
        return
    if stuck > _FAILED * runs:
        yield Finding(
            Level.WARNING,
            "learning",
            f"{plural(stuck, 'run')} of {runs} diverged or ended no better than guessing "
            f"({percent(chance_of(study))}) by their 95% intervals: the learning rate is too high "
            "for them, the runs are too short, or the validation images are too few to tell; "
            "--tune lr, more --epochs or more images help.",
        )
    else:
        sentence = f"{runs - stuck} of {plural(runs, 'run')} did better than guessing."
        yield Finding(Level.PASS, "learning", sentence)


def more_trials(study: StudyRecord) -> int | None:
    """How many more trials may help, since the best design came late; None where it did not."""
    place, trained = place_of_the_best(study)
    late = place and trained >= _FEWEST and trained - place < 0.2 * trained
    return max(10, trained // 2) if late else None


def _progress(study: StudyRecord) -> Iterator[Finding]:
    """Whether more trials still bring something."""
    if study.trained < _FEWEST or study.incumbent is None:
        return
    if more := more_trials(study):
        sentence = f"{last_gain(study)} More trials may help: --trials +{more}."
        yield Finding(Level.NOTE, "progress", sentence)
    else:
        yield Finding(Level.PASS, "progress", last_gain(study))


def _noise(study: StudyRecord, final: FinalRecord | None) -> Iterator[Finding]:
    """Whether the best designs can be told apart at all."""
    ranking = [t for t in study.ranking if t.val_accuracy is not None]
    images = study.settings.validation_images
    if len(ranking) < 2 or images < 1:
        return
    seen = visible_difference(float(ranking[0].val_accuracy or 0), images)
    of_seeds = [
        d.validation.standard_deviation
        for d in (final.finalists if final else ())
        if d.validation and d.validation.standard_deviation is not None
    ]
    about = (
        f"{plural(images, 'validation image')} cannot show differences below "
        f"{points(seen)[1:]} points"
    )
    if of_seeds:
        deviation = float(np.sqrt(np.mean(np.square(of_seeds))))
        about += f", and seeds differ by {points(deviation)[1:]} (standard deviation)"
    if ties_with_the_first(study) > max(5, len(ranking) / 2):
        yield Finding(
            Level.NOTE,
            "noise",
            f"{about}. {ties(study)} Choose among them by size, or run nas final --top N with "
            "several seeds.",
        )
    else:
        yield Finding(Level.PASS, "noise", f"{about}. {ties(study)}")


def _stopping(study: StudyRecord) -> Iterator[Finding]:
    """What early stopping saved, and what each rule would have among the runs that finished."""
    if study.trained < _FEWEST or study.settings.epochs < 2:
        return
    found, others = stopping(study), _replayed(study)
    if found.by_pruner:
        sentence = f"It saved {found.saving}.{others}"
        yield Finding(Level.PASS, "early stopping", sentence)
    else:
        rules = [name for name in search_values(study, "pruner") if name != "none"]
        by_time = found.at_time_limit
        ended = f", and the time limit ended {plural(by_time, 'run')}" if by_time else ""
        sentence = (
            f"The pruner ({listed(rules)}) stopped no run{ended}."
            if rules
            else f"No pruner stopped a run{ended}; --pruner selects a rule that stops some."
        )
        yield Finding(Level.NOTE, "early stopping", f"{sentence}{others}")


def _replayed(study: StudyRecord) -> str:
    """What each pruner would have saved among the complete curves, as a sentence."""
    epochs = study.settings.epochs
    curves = [
        [dict(t.curve).get(epoch, math.nan) for epoch in range(1, epochs + 1)]
        for t in sorted(study.ranking, key=lambda t: t.number)[-_MOST:]
    ]
    curves_TE = np.array(curves, dtype=np.float64).reshape(-1, epochs)
    curves_TE = curves_TE[np.isfinite(curves_TE).all(axis=1)]
    if len(curves_TE) < _CURVES:
        return ""
    found = {
        name: replay(curves_TE, make_pruner(name, epochs=epochs))
        for name in PRUNERS
        if name != "none"
    }
    phrases = [
        f"{name} {share(one.saved)}"
        + ("" if one.kept else f", losing the best ({points(-one.lost)} points)")
        for name, one in found.items()
    ]
    return (
        f" Of its {len(curves_TE)} complete runs each pruner alone would have saved: "
        f"{'; '.join(phrases)}."
    )


def _rejected(study: StudyRecord, space: SearchSpace) -> Iterator[Finding]:
    """How much of the space the limits leave."""
    limits = study.settings.limits
    if not limits:
        return
    fitting = sum(limits.allow(count(design, space.input)) for design in _drawn(space, _UNLIMITED))
    left = fitting / _DRAWS
    if left < 0.01:
        yield Finding(
            Level.NOTE,
            "limits",
            f"Fewer than 1% of the designs of the space are within the limits ({limits}); a space "
            "with smaller channels and blocks (--space) has more that fit.",
        )
    else:
        sentence = f"{share(left)} of the designs of the space are within the limits."
        yield Finding(Level.PASS, "limits", sentence)


_UNLIMITED = Limits(**{cost.maximum: LARGEST for cost in LIMITED.values()})


@functools.lru_cache(maxsize=4)  # the page, the terminal and a note ask for the same
def _drawn(space: SearchSpace, limits: Limits) -> tuple[Architecture, ...]:
    rng = random.Random(0)
    return tuple(space.architecture(*space.draw(limits, rng)) for _ in range(_DRAWS))


def _bounds(
    study: StudyRecord, space: SearchSpace, runs: Sequence[tuple[TrialRecord, float]]
) -> Iterator[Finding]:
    """Choices that the best designs, or most proposals, have at the end of their list."""
    ranked = sorted(runs, key=lambda run: -run[1])
    designs = [t.architecture for t, _ in ranked if t.architecture is not None]
    designs = [d for d in designs if space.values_of(d) is not None]
    if len(designs) < _FEWEST:
        return
    best = designs[: max(5, round(_BEST * len(designs)))]
    usual = list(_drawn(space, study.settings.limits))
    proposed = [t.architecture for t in study.trials if t.architecture is not None]
    found = False
    for name, per_stage in (("channels", space.channels), ("blocks", space.blocks)):
        for stage, choices in enumerate(per_stage):
            for among, whose in ((best, "the best designs"), (proposed, "the proposals")):
                at = _at_bound(name, stage, choices, among, usual)
                if at is not None:
                    found = True
                    yield _bound_finding(name, stage, choices, at, whose)
                    break
    if not found:
        yield Finding(
            Level.PASS, "bounds", "No choice of C or B is at its bound in most of the best designs."
        )


def _at_bound(
    name: str,
    stage: int,
    choices: Choices,
    among: list[Architecture],
    usual: list[Architecture],
) -> int | None:
    """The bound that over half of the designs have, and far more than designs of the space do."""
    if len(choices) < 3:
        return None

    def values(designs: list[Architecture]) -> list[int]:
        return [getattr(d, name)[stage] for d in designs if d.stages > stage]

    chosen, drawn = values(among), values(usual)
    for bound in (choices[0], choices[-1]):
        if bound == 1 or len(chosen) < 5:  # there is nothing below
            continue
        times = chosen.count(bound)
        expected = (drawn.count(bound) + 1) / (len(drawn) + 2)
        if times > len(chosen) / 2 and stats.binom.sf(times - 1, len(chosen), expected) < _CHANCE:
            return bound
    return None


def _bound_finding(name: str, stage: int, choices: Choices, bound: int, whose: str) -> Finding:
    upper = bound == choices[-1]
    low, high = (choices[0], 2 * bound) if upper else (max(1, bound // 2), choices[-1])
    step = math.gcd(choices[1] - choices[0], choices[0] - low)
    return Finding(
        Level.WARNING if whose == "the best designs" else Level.NOTE,
        "bounds",
        f"Over half of {whose} have {bound} {name} in stage {stage + 1}, the "
        f"{'most' if upper else 'fewest'} that the space has: widen it in the --space file "
        f"with {name} = {{low = {low}, high = {high}, step = {step}}} for that stage.",
    )


def _surrogate(space: SearchSpace, runs: Sequence[tuple[TrialRecord, float]]) -> Iterator[Finding]:
    """Whether accuracy can be predicted from the designs, which is what proposals live on."""
    newest = sorted(runs, key=lambda run: -run[0].number)[:_MOST]
    known = [
        (values, accuracy)
        for t, accuracy in newest
        if t.architecture is not None
        if (values := space.values_of(t.architecture)) is not None
    ]
    if len(known) < _FEWEST or len({accuracy for _, accuracy in known}) == 1:
        return
    encoder = Encoder(Candidates(space, _UNLIMITED).search_space)
    columns = encoder.encode({"stages": stages, **values} for (stages, values), _ in known)
    scores = normal_scores(np.array([accuracy for _, accuracy in known]))
    process = GaussianProcess(Kernel.fit(columns, scores, encoder.groups), columns, scores)
    correlation = stats.spearmanr(process.leave_one_out(), scores)
    about = (
        f"Leave-one-out predictions for {len(known)} designs have a rank correlation of "
        f"{correlation.statistic:.2f} with their accuracies"
    )
    if correlation.statistic > 0 and correlation.pvalue < 2 * _CHANCE:
        yield Finding(Level.PASS, "predictions", f"{about}.")
    else:
        yield Finding(
            Level.NOTE,
            "predictions",
            f"{about}, no more than chance gives: proposals are little better than random; more "
            "--epochs, images or trials would separate designs.",
        )


def _at_full_length(study: StudyRecord) -> list[tuple[TrialRecord, float]]:
    """Each run with its accuracy; of one that was stopped that which it would have come to."""
    finished = [(dict(t.curve), t.val_accuracy) for t in study.ranking]

    @functools.cache
    def pairs_at(epoch: int) -> Floats:
        pairs = [
            (curve[epoch], end) for curve, end in finished if end is not None and epoch in curve
        ]
        return np.array(pairs, dtype=np.float64).reshape(-1, 2).T

    found = []
    for trial in study.trials:
        if not trial.counts or trial.val_accuracy is None:
            continue
        accuracy = trial.val_accuracy
        if trial.outcome is Outcome.STOPPED_EARLY and trial.curve:
            early, ends = pairs_at(trial.curve[-1][0])
            accuracy = float(predicted_ends(early, ends, np.array([accuracy]))[0][0])
        found.append((trial, accuracy))
    return found
