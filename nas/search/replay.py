"""What a pruner would have done with runs whose whole learning curves are known."""

from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from nas.search.importances import quiet_optuna


@dataclass(frozen=True, slots=True)
class Replay:
    """A search that was imitated."""

    saved: float  # share of the epochs
    kept: bool  # whether a best run went to its end
    lost: float  # accuracy of the best run less that of the best one that went to its end, 0..1


@quiet_optuna()
def replay(curves_TE: NDArray[np.float64], pruner: BasePruner, name: str = "replay") -> Replay:
    """What a pruner saves and loses, asked after each epoch of each run as in a search.

    Args:
        curves_TE: accuracies of T runs after each of E epochs, in the order in which they were
            trained; NaN from where a run diverged. At least one has none.
        pruner: new, such as `nas.search.pruners.make_pruner` makes.
        name: of the study that is imitated; decides which run Hyperband puts into which bracket.
    """
    epochs = curves_TE.shape[1]
    study = optuna.create_study(
        study_name=name, direction="maximize", sampler=RandomSampler(seed=0), pruner=pruner
    )
    done, kept = 0, []
    for curve_E in curves_TE:
        trial = study.ask()
        for epoch, accuracy in enumerate(curve_E.tolist(), start=1):
            done += 1
            if np.isnan(accuracy):
                break
            trial.report(accuracy, step=epoch)
            if epoch < epochs and trial.should_prune():
                break
        else:
            kept.append(accuracy)
            study.tell(trial, accuracy)
            continue
        study.tell(trial, state=TrialState.PRUNED)
    best = float(np.nanmax(curves_TE[:, -1]))
    found = max(kept, default=float(np.nanmin(curves_TE[:, -1])))
    return Replay(1 - done / curves_TE.size, found == best, best - found)
