"""How a design is kept in a trial: as user attributes that anyone can read in the dashboard."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nas.architecture import FIELD_NAMES, Architecture
from nas.counting import Count

LATENCIES = ("latency_estimate_ms", "latency_ms")
"""What a trial says of its design's latency in ms, where that has a limit; see `TrialRecord`."""

_OPTIONAL = ("strides", "stem_channels", "stem_bias", "shortcut_norm")


def design_attributes(architecture: Architecture, cost: Count, key: str) -> dict[str, Any]:
    """What a trial says of its design, in the order to write it: `pool` last.

    B, C, F, K and P are always there; strides, stem and shortcut norm only where the design has
    other than the usual ones, so that `architecture_of` gives the same network back.

    Args:
        architecture: the design.
        cost: its size.
        key: what tells the trial from others, `nas.training.tuning.trial_key`.
    """
    usual = Architecture(**{name: getattr(architecture, name) for name in FIELD_NAMES})
    unusual = [n for n in _OPTIONAL if getattr(architecture, n) != getattr(usual, n)]
    return {
        "key": key,
        **dataclasses.asdict(cost),
        **{name: getattr(architecture, name) for name in (*unusual, *FIELD_NAMES)},
    }


def latency_attributes(estimate: float, measured: float | None) -> dict[str, float]:
    """What a trial says of its design's latency, in ms."""
    values = zip(LATENCIES, (estimate, measured), strict=True)
    return {name: round(value, 4) for name, value in values if value is not None}


def architecture_of(attributes: Mapping[str, Any]) -> Architecture | None:
    """The design that a trial's user attributes describe; None before all are written."""
    if "pool" not in attributes:  # the last one written
        return None
    names = (*FIELD_NAMES, *(name for name in _OPTIONAL if name in attributes))
    return Architecture(**{n: _as_field(attributes[n]) for n in names})


def _as_field(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
