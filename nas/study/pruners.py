"""Which runs are stopped early."""

from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner


def make_pruner(name: str, *, epochs: int) -> BasePruner:
    """One of `nas.study.request.PRUNERS`, for runs of this many epochs.

    A run is judged from its middle on: at a high learning rate accuracy says little.
    """
    warmup = max(1, epochs // 2)
    if name == "none":
        return NopPruner()
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=warmup, reduction_factor=2)
    assert name == "median", name
    return MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)
