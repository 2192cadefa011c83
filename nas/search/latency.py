"""Which designs are fast enough: estimated from the layers they have, measured where it matters.

A design takes about as long as its layers, each of which is measured once, alone. Whole designs say
how long exactly: by least squares of relative errors a latency is a sum of the layers' times, their
activations and their number, and a constant, for what a run of one layer costs in itself and what
layers cost less one after another. Of a layer that was not measured the nearest one gives the time
of a mult-add. All times are milliseconds for one image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, ImageInput
from nas.latency import TimedLayer, layers_of
from nas.study.latencies import Measured
from nas.values import LARGEST

_CLOSE = 1.1  # times the limit, up to which an estimate leaves a design to be measured
_SLACK = 1.5  # times what the layer of the most mult-adds per millisecond would allow
_LEAST = 0.1  # of the layers' sum: no estimate is less

_layers_of = lru_cache(maxsize=50_000)(layers_of)


class Clock(Protocol):
    """What measures: `nas.export.timing.Stopwatch`."""

    def layer(self, layer: TimedLayer) -> float:
        """A layer alone."""

    def design(self, architecture: Architecture, input: ImageInput) -> float:
        """A whole design."""


@dataclass(frozen=True, slots=True)
class Latency:
    """What is known of a design."""

    estimate: float
    measured: float | None = None  # of the whole design; None where the estimate is far above

    @property
    def ms(self) -> float:
        """What counts."""
        return self.estimate if self.measured is None else self.measured


class LatencyTable:
    """What was measured on one machine, and what follows for any design.

    Args:
        most: what a design may take.
        input: the image.
        measured: by name: a layer's time; of a design its time and what its estimate is made of.
    """

    def __init__(
        self, most: float, input: ImageInput, measured: Mapping[str, Measured] | None = None
    ) -> None:
        self.most = most
        self._input = input
        self.learn(measured or {})

    def learn(self, measured: Mapping[str, Measured]) -> None:
        """Takes in all that was measured; what was known before counts no more."""
        self._layers = {
            TimedLayer.read(n): ms for n, ms in measured.items() if isinstance(ms, float)
        }
        self._designs = {n: row for n, row in measured.items() if not isinstance(row, float)}
        self._renew()

    @property
    def measured(self) -> dict[str, Measured]:
        """All that was measured, by name."""
        return {**{str(layer): ms for layer, ms in self._layers.items()}, **self._designs}

    @property
    def designs(self) -> int:
        """How many designs were measured."""
        return len(self._designs)

    def measure(self, architecture: Architecture, clock: Clock, *, whole: bool = False) -> Latency:
        """The latency of a design, for which all is measured that is missing.

        The design itself only where it may be fast enough, or with `whole`.
        """
        missing = {*_layers_of(architecture, self._input)} - self._layers.keys()
        if missing:
            self._layers |= {layer: clock.layer(layer) for layer in sorted(missing)}
            self._renew()
        whole = whole or self.estimate(architecture) <= _CLOSE * self.most
        if whole and architecture.key not in self._designs:
            ms = clock.design(architecture, self._input)
            self._designs[architecture.key] = [ms, *self._parts(architecture)]
            self._renew()
        return self.latency(architecture)

    def latency(self, architecture: Architecture) -> Latency:
        """The latency of a design, as far as it is known."""
        return Latency(self.estimate(architecture), self._whole(architecture))

    def estimate(self, architecture: Architecture) -> float:
        """A design by its layers alone."""
        parts = self._parts(architecture)
        return max(float(self._weights @ parts), _LEAST * float(parts[0]))

    def allows(self, architecture: Architecture) -> bool:
        """Whether a design may be fast enough, as far as is known."""
        known = self._allowed.get(architecture)
        if known is None:
            whole = self._whole(architecture)
            ms = self.estimate(architecture) / _CLOSE if whole is None else whole
            known = self._allowed[architecture] = ms <= self.most
        return known

    @cached_property
    def most_mult_adds(self) -> int:
        """No design with more is fast enough, as far as is known."""
        rates = [layer.mult_adds / ms for layer, ms in self._layers.items()]
        return int(_SLACK * self.most * max(rates)) if rates else LARGEST

    def _renew(self) -> None:
        """Forgets what followed from less."""
        for name in ("_weights", "_known", "most_mult_adds"):
            self.__dict__.pop(name, None)
        self._stand_ins: dict[TimedLayer, float] = {}
        self._allowed: dict[Architecture, bool] = {}

    def _whole(self, architecture: Architecture) -> float | None:
        row = self._designs.get(architecture.key)
        return None if row is None else row[0]

    def _parts(self, architecture: Architecture) -> list[float]:
        """What an estimate is made of: milliseconds, millions of activations, layers, and 1."""
        layers = _layers_of(architecture, self._input)
        activations = sum(layer.activations for layer in layers) / 1e6
        return [sum(map(self._time, layers)), activations, float(len(layers)), 1.0]

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """Of the parts: of those that fit as well the nearest to the layers' sum alone."""
        plain = np.array([1.0, 0.0, 0.0, 0.0])
        if not self._designs:
            return plain
        rows = np.array(list(self._designs.values()))
        shares = rows[:, 1:] / rows[:, :1]
        correction: NDArray[np.float64] = np.linalg.lstsq(shares, 1 - shares @ plain, rcond=None)[0]
        return plain + correction

    def _time(self, layer: TimedLayer) -> float:
        ms = self._layers.get(layer) or self._stand_ins.get(layer)
        if ms is None:
            ms = self._stand_ins[layer] = self._as_nearest(layer)
        return ms

    def _as_nearest(self, layer: TimedLayer) -> float:
        known, places = self._known
        if not known:
            return 0.0
        near = known[int(np.abs(places - np.array(layer.logs)).sum(1).argmin())]
        return self._layers[near] * layer.mult_adds / near.mult_adds

    @cached_property
    def _known(self) -> tuple[list[TimedLayer], NDArray[np.float64]]:
        """The convolutions that were measured, and where they are among all."""
        convs = [layer for layer in self._layers if layer.kind != "head"]
        return convs, np.array([layer.logs for layer in convs])
