"""Known designs, presets and those of an earlier study, that are trained first.

A queued preset that is a design of the space has all of that design's Optuna parameters, so that
samplers learn from it. One outside the space has none at all, and says what it is in its user
attributes alone. Some of the parameters would split TPE's groups (`group=True`) for the rest of the
study; wider distributions would lead candidates out of the space, and Optuna refuses choices that
change. A trial without parameters leaves groups, dashboard and importances as they were.
"""

from collections.abc import Mapping, Sequence, Set

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.architecture import PRESETS, Architecture
from nas.counting import count
from nas.errors import RequestError
from nas.search.latency import LatencyTable
from nas.space import Limits, SearchSpace
from nas.study.records import StudyRecord
from nas.text import plural
from nas.training.tuning import Choice, defaults, trial_key

_FROM_EARLIER = 5  # designs; more would take the place of what the search itself proposes
_PRESET = "preset"  # the user attribute with its name
_KEPT = (_PRESET, "proposal_budget", "key")  # of a trial that is queued again


def enqueue_presets(
    study: optuna.Study,
    presets: Mapping[str, Architecture],
    space: SearchSpace,
    choices: Sequence[Choice],
    seen: Set[str],
    latency: LatencyTable | None = None,
) -> None:
    """Queues the presets, trained as the recipe says, that are neither in `seen` nor queued yet.

    Call it before the first proposal, and from one process at a time.

    Args:
        study: where.
        presets: names and designs within the limits, `SearchRequest.presets_for`, `designs_like`.
        space: what the study searches.
        choices: its training choices; a preset takes the recipe's own.
        seen: `trial_key` of what was or is being trained.
        latency: where it has a limit; what was refused for it before is queued again only where
            it may be fast enough by now.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.PRUNED))
    queued, refused = (
        {trial.user_attrs.get(_PRESET) for trial in trials if trial.state is state}
        for state in (TrialState.WAITING, TrialState.PRUNED)
    )
    training = defaults(choices)
    known = set(seen)
    for name, architecture in presets.items():
        key = trial_key(architecture, training)
        if name in queued or key in known:
            continue
        if latency is not None and name in refused and not latency.allows(architecture):
            continue
        known.add(key)
        found = space.values_of(architecture)
        parameters = {} if found is None else {"stages": found[0], **found[1], **training}
        study.enqueue_trial(parameters, user_attrs={_PRESET: name})


def designs_like(
    earlier: StudyRecord, space: SearchSpace, limits: Limits
) -> dict[str, Architecture]:
    """The best designs of an earlier study that a search may propose, by where they come from.

    Only which designs they are is taken over, not what they reached, which other images, lengths
    of training or recipes make another thing.

    Raises:
        RequestError: there is none.
    """
    designs: dict[str, Architecture] = {}
    for trial in earlier.ranking:
        design = trial.architecture
        if (
            len(designs) < _FROM_EARLIER
            and design is not None
            and space.values_of(design) is not None
            and limits.allow(count(design, space.input))
        ):
            designs[f"trial {trial.number} of {earlier.name}"] = design
    if not designs:
        raise RequestError(
            "--like: expected a study with a design that is in this search's space and within "
            f"its limits, got {earlier.name}, whose "
            f"{plural(len(earlier.ranking), 'trained design')} are not; omit --like"
        )
    return designs


def preset_outside(trial: optuna.Trial, space: SearchSpace) -> Architecture | None:
    """The trial's preset if that is no design of the space; else the sampler is to be asked.

    A queued preset of the space is what the sampler is bound to suggest.
    """
    design = PRESETS.get(trial.user_attrs.get(_PRESET, ""))
    if design is None or space.values_of(design) is not None:
        return None
    return design


def queue_again(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Queues the design of a trial that was cut short again, after what is queued already.

    The queued trial has its `key`: where values were lost, others would be drawn in their place.
    """
    kept = {name: trial.user_attrs[name] for name in _KEPT if name in trial.user_attrs}
    study.enqueue_trial(trial.params, user_attrs=kept)
