"""Which designs a search may propose, and what these are for given images."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nas.architecture import PRESETS, Architecture, ImageInput
from nas.counting import COSTS, LIMITED, Cost, Count, count
from nas.devices import DEVICES, KEPT_BACK
from nas.errors import RequestError
from nas.latency import FLOAT, NETWORKS, LatencyLimit
from nas.space import Limits, SearchSpace, default_space, load_space
from nas.values import (
    NO_LIMIT,
    amount,
    amount_or_none,
    choices,
    flag,
    keep_options,
    latency,
    memory,
    names,
    option,
    path,
    text,
    whole,
)

OF_STUDY = "as in --study, or {default}"
SIZED = "as in --study, or what fits --time, or {}"

_FOR = "--for"


def space_of(name: str, value: object) -> Path | SearchSpace:
    """A space, or the path of its file. Raises as `path`."""
    return value if isinstance(value, SearchSpace) else path(name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignOptions:
    """A space, what designs of it may cost and how long they may take, and those to train first.

    Raises:
        RequestError: a value is out of its range.
    """

    max_parameters: int | None = option(
        None,
        amount,
        "maximum number of parameters, such as 5M, 5e6 or 5000000; a new study needs it, or "
        "another limit",
        otherwise=OF_STUDY.format(default="none"),
        name=COSTS["parameters"].option,
    )
    space: Path | SearchSpace | None = option(
        None,
        space_of,
        "TOML file with choices for N, B, C, F, K and P",
        otherwise="as in --study, or by image size",
    )
    max_mult_adds: int | str | None = option(
        None,
        amount_or_none,
        "maximum number of mult-adds per image, or none",
        otherwise=SIZED.format("none"),
    )
    max_arena: int | None = option(
        None,
        memory,
        "maximum of RAM that TensorFlow Lite Micro needs for the network in int8, such as 256k",
        otherwise=OF_STUDY.format(default="none"),
        name=COSTS["arena"].option,
    )
    max_flash: int | None = option(
        None,
        memory,
        "maximum size of the network's int8 file, such as 1M",
        otherwise=OF_STUDY.format(default="none"),
        name=COSTS["flash"].option,
    )
    max_peak_ram: int | None = option(
        None,
        memory,
        "maximum of RAM for the tensors alone that are live at once",
        otherwise=OF_STUDY.format(default="none"),
    )
    target: str | None = option(
        None,
        text,
        "device that the network is for, which sets --max-ram and --max-flash where they are not "
        f"given: {', '.join(DEVICES)}; {KEPT_BACK}",
        otherwise=OF_STUDY.format(default="none"),
        name=_FOR,
        choices=tuple(DEVICES),
        metavar="DEVICE",
    )
    max_latency: float | None = option(
        None,
        latency,
        "maximum milliseconds for one image in ONNX Runtime on this machine's processor, such as "
        "5ms or 800us",
        otherwise="as in --study, or none",
    )
    latency_of: str = option(
        FLOAT,
        text,
        "the network that is timed: float as it is exported, or the same in int8",
        otherwise=OF_STUDY,
        choices=NETWORKS,
    )
    latency_threads: int = option(1, whole, "threads that it is timed with", otherwise=OF_STUDY)
    latency_anew: bool = option(
        False,
        flag,
        "measure anew on this machine what another one, or another ONNX Runtime, has measured in "
        "the study",
    )
    enqueue: tuple[str, ...] = option(
        (),
        names,
        f"known designs to train first: {', '.join(PRESETS)}",
        otherwise=OF_STUDY,
        metavar="PRESET",
        nargs="+",
    )

    def __post_init__(self) -> None:
        keep_options(self)  # of a request also its others
        for name, most in self._of_target.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, most)
        if not self._maxima and self.max_latency is None:
            others = [cost.option for cost in LIMITED.values() if not cost.always]
            raise RequestError(
                "--budget: expected the most parameters a design may have, such as 5M, or another "
                f"limit ({', '.join([*others, '--max-latency', _FOR])}), "
                "or the study to continue with --study, got none"
            )
        if self.max_latency is None:
            given = {
                "--latency-of": self.latency_of != FLOAT,
                "--latency-threads": self.latency_threads != 1,
                "--latency-anew": self.latency_anew,
            }
            for option_name in filter(given.__getitem__, given):
                raise RequestError(f"{option_name}: expected a --max-latency with it, got none")
        for name in self.enqueue:
            if name not in PRESETS:
                raise RequestError(f"--enqueue: expected {choices(name, PRESETS)}")

    @property
    def limits(self) -> Limits:
        """What a design may cost."""
        return Limits(**self._maxima)

    @property
    def _maxima(self) -> dict[str, int]:
        given = {cost.maximum: getattr(self, cost.maximum) for cost in LIMITED.values()}
        return {name: most for name, most in given.items() if most not in (None, NO_LIMIT)}

    @property
    def _of_target(self) -> dict[str, int]:
        """The limits of the device that the network is for."""
        return {} if self.target is None else DEVICES[self.target].maxima

    def _option_of(self, cost: Cost) -> str:
        """The option that set a cost's limit."""
        most = getattr(self, cost.maximum)
        return f"{_FOR} {self.target}" if self._of_target.get(cost.maximum) == most else cost.option

    @property
    def latency(self) -> LatencyLimit | None:
        """What a design may take; None without a limit."""
        if self.max_latency is None:
            return None
        return LatencyLimit(
            max_ms=self.max_latency, of=self.latency_of, threads=self.latency_threads
        )

    def space_for(self, input: ImageInput) -> SearchSpace:
        """The space for these images.

        Raises:
            RequestError: its file cannot be used, or no design of it is within the limits.
        """
        try:
            if isinstance(self.space, SearchSpace):
                space = replace(self.space, input=input)
            else:
                space = (
                    load_space(self.space, input, self.limits)
                    if self.space
                    else default_space(input, limits=self.limits)
                )
        except OSError as error:
            raise RequestError(
                f"--space: expected a TOML file, got {self.space}: {error.strerror}"
            ) from error
        except ValueError as error:
            raise RequestError(f"--space: {error}") from error
        smallest = space.smallest(self.limits)
        for cost, value, most in self._exceeded(count(smallest, input)):
            raise RequestError(
                f"{self._option_of(cost)}: expected at least {cost.exactly(value)}, which the "
                f"smallest design of the space has ({smallest}, for {input}), got {most:,}"
            )
        return space

    def presets_for(self, input: ImageInput) -> dict[str, Architecture]:
        """The designs of `enqueue` by name; of two names for one network the first.

        Raises:
            RequestError: one cannot read these images, or is over a limit.
        """
        presets: dict[str, Architecture] = {}
        for name in self.enqueue:
            design = PRESETS[name]
            try:
                counted = count(design, input)
            except ValueError as error:
                raise RequestError(
                    f"--enqueue: expected designs that can read {input}, got {name}: {error}"
                ) from error
            for cost, value, most in self._exceeded(counted):
                raise RequestError(
                    f"--enqueue: expected designs of at most {cost.exactly(most)} "
                    f"({self._option_of(cost)}), got {name} with {value:,}"
                )
            if design.key not in {known.key for known in presets.values()}:
                presets[name] = design
        return presets

    def _exceeded(self, count: Count) -> Iterator[tuple[Cost, int, int]]:
        """Each cost that is above its limit, with its value and the limit."""
        for name, most in self.limits.items():
            value = getattr(count, name)
            if value > most:
                yield COSTS[name], value, most
