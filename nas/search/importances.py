"""Which choices of a design decided how good it became, as Optuna sees it, and what chance gives.

The importances are Optuna's default, PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255; for choices
that only some designs have, arXiv:2601.20800): how differently a choice is made in the best tenth
of the designs than in all of them. Few designs always differ by luck, so the same is measured with
the accuracies shuffled, many times: what seems to matter most in any of these is the mark that a
choice must pass.
"""

import random
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial

from nas.architecture import LETTERS
from nas.runtime import signals
from nas.search.candidates import Candidates
from nas.space import SearchSpace
from nas.study.records import Outcome, StudyRecord, TrialRecord

_SHUFFLES = 19  # a study of luck alone exceeds the largest of 19 others once in 20 times


@dataclass(frozen=True, slots=True)
class Importance:
    """How much a choice, or all choices of one letter, mattered."""

    name: str
    share: float  # of all importances, 0..1
    chance: float  # what one in 20 studies of luck alone exceeds with any choice, in the same unit

    @property
    def is_beyond_chance(self) -> bool:
        """Whether it mattered more than luck explains."""
        return self.share > self.chance


@dataclass(frozen=True, slots=True)
class Importances:
    """What mattered in a study, the most important first."""

    designs: int  # trained to the end, that this is read from
    choices: tuple[Importance, ...]  # by the name of the choice in the study
    letters: tuple[Importance, ...]  # N, B, C, F, K, P, and the training choices


def importances(study: StudyRecord) -> Importances:
    """What mattered in a study; nothing of it where fewer than two designs can be compared.

    Only designs of the space that were trained to the end are compared: one that was stopped early
    has the accuracy of fewer epochs.
    """
    trials = [trial for _, trial in compared_trials(study)]
    names = {name for trial in trials for name in trial.distributions}
    if len(trials) < 2 or not names:
        return Importances(len(trials), (), ())
    values = [trial.values[0] for trial in trials]
    with quiet_optuna():
        made = optuna.create_study(direction="maximize")
        made.add_trials(trials)
        found = get_param_importances(made, normalize=False)
        rng = random.Random(0)  # fixed: the same study gives the same report
        shuffled = []
        for _ in range(_SHUFFLES):
            signals.check()
            rng.shuffle(values)
            # A target is minimized, whatever the study does.
            dealt = [-value for value in values]
            shuffled.append(
                get_param_importances(
                    made,
                    normalize=False,
                    target=lambda trial, dealt=dealt: dealt[trial.number],  # type: ignore[misc]
                )
            )
    return Importances(
        len(trials), _weighed(found, shuffled), _weighed(_summed(found), [*map(_summed, shuffled)])
    )


def letter(name: str) -> str:
    """The letter of a choice of the design: `channels_3` is C; other choices keep their name."""
    plain = re.sub(r"_\d+(_stages)?$", "", name)
    return LETTERS.get(plain, plain)


def _weighed(
    found: Mapping[str, float], shuffled: Sequence[Mapping[str, float]]
) -> tuple[Importance, ...]:
    total = sum(found.values()) or 1.0
    # One mark for all: with many choices one of them would pass a mark of its own too easily.
    chance = max(max(draw.values()) for draw in shuffled) / total
    weighed = [Importance(name, value / total, chance) for name, value in found.items()]
    return tuple(sorted(weighed, key=lambda i: (-i.share, i.name)))


def _summed(found: Mapping[str, float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, value in found.items():
        sums[letter(name)] = sums.get(letter(name), 0.0) + value
    return sums


def compared_trials(study: StudyRecord) -> list[tuple[TrialRecord, FrozenTrial]]:
    """The designs of the space that were trained to the end, and each as Optuna would have it."""
    s = study.settings
    try:
        space = SearchSpace(input=s.input, **s.space)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # of another version
        return []
    distributions = Candidates(space, s.limits).search_space
    compared = [
        (trial, found)
        for trial in study.trials
        if trial.outcome is Outcome.TRAINED and trial.val_accuracy is not None
        if trial.architecture is not None
        if (found := space.values_of(trial.architecture)) is not None
    ]
    training = _training_distributions([trial for trial, _ in compared], s.tuning)
    trials = []
    for trial, (stages, values) in compared:
        params: dict[str, Any] = {"stages": stages, **values}
        params.update({name: trial.training[name] for name in training if name in trial.training})
        known = {name: (distributions | training)[name] for name in params}
        as_optuna = optuna.create_trial(
            params=params, distributions=known, value=trial.val_accuracy
        )
        trials.append((trial, as_optuna))
    return trials


def _training_distributions(
    trials: Sequence[TrialRecord], tuning: Mapping[str, object]
) -> dict[str, BaseDistribution]:
    """The training choices by their real values; the rate in place of its factor."""
    names = {"lr" if name == "lr_factor" else name for name in tuning}
    seen: dict[str, set[Any]] = {
        name: {trial.training[name] for trial in trials if name in trial.training} for name in names
    }
    return {
        name: CategoricalDistribution(sorted(values, key=str))
        for name, values in seen.items()
        if values
    }


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna's words of caution, in its log and as warnings, go to the reader of the report."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
