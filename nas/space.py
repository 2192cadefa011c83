"""The designs a search may propose: choices for N, B, C, F, K and P, and what fits a limit.

Every count grows with each of B, C, F and K and shrinks with P, so the smallest completion of a
partial design is the one that takes the smallest of everything still open. That makes the smallest
design, the walk over all designs within a limit and a draw among them exact and cheap.
"""

import random
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.architecture import FIELD_NAMES, MAX_BLOCKS, STAGE_FIELDS, Architecture, ImageInput
from nas.counting import COSTS, LIMITED, Count, count
from nas.text import plural
from nas.values import LARGEST, did_you_mean, keep_plain, or_none, several, whole

Choices = tuple[int, ...]  # ascending, distinct

_PER_STAGE = tuple(field.name for field in STAGE_FIELDS)
_OF_PROJECTIONS = ("shortcut_kernels",)  # fixed to 1 in the first stage, which has none
MAX_CHOICES = 10_000  # of a range
_REMEMBERED = 100_000  # costs, of about 200 bytes
_MOST = {
    "blocks": MAX_BLOCKS,
    "stages": 16,  # each halves the map: enough for images of 65,536 pixels
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # equal as mappings are
class Limits(Mapping[str, int]):
    """What a design may cost at most: the maximum of each of `LIMITED` that has one, by its name.

    Raises:
        ValueError: a limit is no whole number, or below 1.
    """

    max_parameters: int | None = None
    max_mult_adds: int | None = None
    max_peak_ram: int | None = None  # bytes, as the others below
    max_arena: int | None = None
    max_flash: int | None = None

    def __post_init__(self) -> None:
        maxima = {cost.maximum: or_none(whole) for cost in LIMITED.values()}
        keep_plain(self, maxima)

    def __hash__(self) -> int:
        """Equal limits have the same."""
        return hash(frozenset(self.items()))

    def __getitem__(self, name: str) -> int:
        """The maximum of a cost."""
        maximum: int | None = getattr(self, f"max_{name}", None)
        if maximum is None:
            raise KeyError(name)
        return maximum

    def __iter__(self) -> Iterator[str]:
        """The names of the costs that have a maximum."""
        return (name for name in LIMITED if getattr(self, f"max_{name}") is not None)

    def __len__(self) -> int:
        """How many costs have a maximum."""
        return sum(1 for _ in self)

    def __str__(self) -> str:
        """As in at most 5,000,000 parameters and 30,000,000 mult-adds; or any size."""
        if not self:
            return "any size"
        return "at most " + " and ".join(COSTS[n].exactly(most) for n, most in self.items())

    @property
    def of_memory(self) -> bool:
        """Whether RAM or flash is limited, as for a microcontroller, which runs int8 files."""
        return any(COSTS[name].memory for name in self)

    def with_maximum(self, name: str, maximum: int) -> "Limits":
        """The same but for one cost's maximum."""
        return replace(self, **{COSTS[name].maximum: maximum})

    def lowered(self, name: str, maximum: int) -> "Limits":
        """The same, with no higher maximum of one cost."""
        return self.with_maximum(name, min(maximum, self.get(name, maximum)))

    def excess(self, cost: Count) -> dict[str, float]:
        """Per limit: how far the cost is above it, as a share of the limit; fits when <= 0."""
        return {name: (getattr(cost, name) - most) / most for name, most in self.items()}

    def allow(self, cost: Count) -> bool:
        """Whether the cost is within every limit."""
        return all(getattr(cost, name) <= most for name, most in self.items())


@dataclass(frozen=True, slots=True)
class Variable:
    """One choice of a design, as it is called in a study."""

    name: str
    choices: Choices
    shrinks: bool = False  # whether a larger value makes the design smaller

    @property
    def by_cost(self) -> Choices:
        """The choices from the smallest design to the largest."""
        return self.choices[::-1] if self.shrinks else self.choices


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Which values each choice of a design may take, for one kind of image.

    K is open only where a stage has a projection; in stage 1 the shortcut is an identity, so its K
    is fixed to 1.

    Raises:
        ValueError: a list is empty, a kernel even, a per-stage list too short, or a pool does not
            fit the last map.
    """

    input: ImageInput
    stages: Choices  # N
    blocks: tuple[Choices, ...]  # B, per stage
    channels: tuple[Choices, ...]  # C, per stage
    kernels: tuple[Choices, ...]  # F, per stage
    shortcut_kernels: tuple[Choices, ...]  # K, per stage
    pool: Choices  # P; those that fit the last map are open to a design
    _variables: Mapping[int, tuple[Variable, ...]] = field(init=False, repr=False, compare=False)
    _costs: dict[tuple[int, ...], Count] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )  # of the smallest completions, which draws and walks ask for again and again

    def __post_init__(self) -> None:
        for name in ("stages", "pool"):
            object.__setattr__(self, name, _checked_choices(name, getattr(self, name)))
        for name in _PER_STAGE:
            lists = several(name, getattr(self, name), "choices, one per stage")
            per_stage = tuple(_checked_choices(name, choices) for choices in lists)
            if len(per_stage) < self.stages[-1]:
                raise ValueError(
                    f"{name} must have choices for each of {plural(self.stages[-1], 'stage')}, "
                    f"got {len(per_stage)}"
                )
            object.__setattr__(self, name, per_stage)
        for stages in self.stages:
            if not self._pools(stages):
                side = _last_side(self.input, stages)
                raise ValueError(
                    f"pool must have a choice in 1..{side}, since the last map after "
                    f"{plural(stages, 'stage')} is {plural(side, 'pixel')} wide, "
                    f"got {list(self.pool)}"
                )
        object.__setattr__(self, "_variables", {n: self._variables_of(n) for n in self.stages})

    def variables(self, stages: int) -> tuple[Variable, ...]:
        """The choices of a design with this many stages, in the order they are proposed."""
        return self._variables[stages]

    def _variables_of(self, stages: int) -> tuple[Variable, ...]:
        found = []
        for i in range(stages):
            names = [n for n in _PER_STAGE if i > 0 or n not in _OF_PROJECTIONS]
            found += [Variable(f"{name}_{i + 1}", getattr(self, name)[i]) for name in names]
        # A name belongs to one list of choices only: samplers compare trials by name.
        same = len({self._pools(n) for n in self.stages}) == 1
        name = "pool" if same else f"pool_{stages}_stages"
        found.append(Variable(name, self._pools(stages), shrinks=True))
        return tuple(found)

    def architecture(self, stages: int, values: Mapping[str, int]) -> Architecture:
        """The design that the values of `variables(stages)` describe."""
        per_stage: dict[str, Any] = {
            name: tuple(
                values.get(f"{name}_{i}", 1) if name in _OF_PROJECTIONS else values[f"{name}_{i}"]
                for i in range(1, stages + 1)
            )
            for name in _PER_STAGE
        }
        return Architecture(**per_stage, pool=values[self.variables(stages)[-1].name])

    def values_of(self, architecture: Architecture) -> tuple[int, dict[str, int]] | None:
        """The (stages, values) that describe this network, or None if the space lacks it."""
        stages = architecture.stages
        if stages not in self.stages:
            return None
        given = {
            f"{name}_{i}": value
            for name in _PER_STAGE
            for i, value in enumerate(getattr(architecture, name), start=1)
        }
        variables = self.variables(stages)
        given[variables[-1].name] = architecture.pool
        values = {v.name: given[v.name] for v in variables}
        if any(values[v.name] not in v.choices for v in variables):
            return None
        same = self.architecture(stages, values).key == architecture.key
        return (stages, values) if same else None

    def smallest(self, limits: Limits | None = None, *, by: str = "parameters") -> Architecture:
        """The design with the fewest parameters, among those within the limits if there are any.

        No other design, of those that were to choose from, has fewer parameters. With `by` the
        same for another of `COSTS`.
        """
        candidates = [
            self.architecture(stages, self._smallest_values(stages, {})) for stages in self.stages
        ]
        fitting = [a for a in candidates if limits and limits.allow(count(a, self.input))]
        return min(fitting or candidates, key=lambda a: int(getattr(count(a, self.input), by)))

    def designs(self, limits: Limits) -> Iterator[tuple[int, dict[str, int]]]:
        """Every design within the limits, as (stages, values), without building the others."""
        for stages in self.stages:
            for values in self._walk(stages, limits, {}, 0):
                yield stages, values

    def draw(self, limits: Limits, rng: random.Random) -> tuple[int, dict[str, int]]:
        """One design within the limits, as (stages, values).

        N is drawn first, then each choice in turn, uniformly among the values that still leave a
        design within the limits.

        Raises:
            ValueError: no design of the space is within the limits.
        """
        open_stages = [n for n in self.stages if self._fits(n, limits, {})]
        if not open_stages:
            raise ValueError("no design of the space is within the limits")
        stages = rng.choice(open_stages)
        values: dict[str, int] = {}
        for variable in self.variables(stages):
            name, choices = variable.name, variable.by_cost
            fitting = bisect_left(
                choices,
                True,
                key=lambda choice: not self._fits(stages, limits, {**values, name: choice}),
            )
            values[name] = rng.choice(choices[:fitting])
        return stages, values

    def to_dict(self) -> dict[str, object]:
        """The choices as plain lists, as a study records them."""
        names = ("stages", *FIELD_NAMES)
        return {
            name: [list(v) if isinstance(v, tuple) else v for v in getattr(self, name)]
            for name in names
        }

    def _walk(
        self, stages: int, limits: Limits, values: dict[str, int], depth: int
    ) -> Iterator[dict[str, int]]:
        if not self._fits(stages, limits, values):
            return
        variables = self.variables(stages)
        if depth == len(variables):
            yield values
            return
        for choice in variables[depth].choices:
            yield from self._walk(
                stages, limits, {**values, variables[depth].name: choice}, depth + 1
            )

    def _fits(self, stages: int, limits: Limits, values: Mapping[str, int]) -> bool:
        """Whether a design with these values, the first of its variables, can be within them."""
        known = (stages, *values.values())
        cost = self._costs.get(known)
        if cost is None:
            smallest = self.architecture(stages, self._smallest_values(stages, values))
            cost = count(smallest, self.input)
            if len(self._costs) >= _REMEMBERED:
                self._costs.clear()
            self._costs[known] = cost
        return limits.allow(cost)

    def _smallest_values(self, stages: int, values: Mapping[str, int]) -> dict[str, int]:
        return {**{v.name: v.by_cost[0] for v in self.variables(stages)}, **values}

    def _pools(self, stages: int) -> Choices:
        return tuple(pool for pool in self.pool if pool <= _last_side(self.input, stages))


def _last_side(input: ImageInput, stages: int) -> int:
    """Shorter side of the last map, in pixels, after stages of stride 1, 2, 2, ..."""
    strides: int = 2 ** (stages - 1)
    return -(-min(input.height, input.width) // strides)


def default_space(
    input: ImageInput, stages: Choices = (), limits: Limits | None = None
) -> SearchSpace:
    """A sensible space for the image size.

    N, unless given, ends on a last map of 4 to 8 pixels (2 to 8 for images under 16 pixels, whose
    stages are few). Small images get narrow stages: they hold little, and wide ones would only cost
    time. Limits of RAM or flash begin it at 4 channels, since a microcontroller holds no 16 maps of
    a photo. P is the whole last map or half of it.
    """
    stages = _checked_choices("stages", stages) if len(stages) else ()
    side = min(input.height, input.width)
    tiny = side < 16
    if not stages:
        smallest = 2 if tiny else 4
        stages = tuple(
            n for n in range(1, _MOST["stages"] + 1) if smallest <= _last_side(input, n) <= 8
        ) or (1,)
    last_sides = [_last_side(input, n) for n in stages]
    width, widest, step = (32, 256, 8) if tiny else (128, 512, 16)
    narrow: Choices = ()
    if limits is not None and limits.of_memory:
        narrow, step = (4,), 8
    return SearchSpace(
        input=input,
        stages=stages,
        blocks=((1, 2, 3) if tiny else (1, 2, 3, 4),) * stages[-1],
        channels=tuple(
            (*narrow, *range(step, min(width * 2**i, widest) + 1, step)) for i in range(stages[-1])
        ),
        kernels=((3, 5),) * stages[-1],
        shortcut_kernels=((1, 3),) * stages[-1],
        pool=tuple(sorted({max(1, side // part) for side in last_sides for part in (1, 2)})),
    )


_ONCE = ("stages", "pool")
_RANGE_KEYS = {"low", "high", "step"}


def load_space(path: Path | str, input: ImageInput, limits: Limits | None = None) -> SearchSpace:
    """The space of a TOML file; what the file leaves out stays as in `default_space`.

    A value is a number, a list of numbers, or a range ``{low = 16, high = 128, step = 16}``. For
    a field with a value per stage it serves all stages, or is a list with one such value (list or
    range) per stage.

    Raises:
        ValueError: the file is no TOML, has an unknown key, or describes no valid space.
        OSError: the file cannot be read.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a TOML file, got: {error}") from error
    unknown = sorted(set(table) - {*_PER_STAGE, *_ONCE})
    if unknown:
        raise ValueError(
            f"{path}: expected the keys {', '.join((*_ONCE, *_PER_STAGE))}, got {unknown[0]!r}"
            + did_you_mean(unknown[0], (*_ONCE, *_PER_STAGE))
        )
    try:
        return space_from_table(table, input, limits)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def space_from_table(
    table: Mapping[str, object], input: ImageInput, limits: Limits | None = None
) -> SearchSpace:
    """The space of `SearchSpace.to_dict`, or of a file; what is left out is as in `default_space`.

    Raises:
        ValueError: it is no valid space.
    """
    stages = _parsed_choices("stages", table["stages"]) if "stages" in table else ()
    space = default_space(input, stages, limits)

    per_stage: dict[str, Any] = {
        name: _parsed_stages(name, table[name], space.stages[-1])
        for name in _PER_STAGE
        if name in table
    }
    pool = _parsed_choices("pool", table["pool"]) if "pool" in table else space.pool
    return replace(space, **per_stage, pool=pool)


def _parsed_stages(name: str, value: object, stages: int) -> tuple[Choices, ...]:
    if isinstance(value, list) and any(isinstance(v, list | dict) for v in value):
        if len(value) != stages:
            raise ValueError(
                f"{name} must have one list per stage, that is {stages}, got {len(value)}"
            )
        return tuple(_parsed_choices(name, v) for v in value)
    return (_parsed_choices(name, value),) * stages


def _parsed_choices(name: str, value: object) -> Choices:
    if isinstance(value, dict):
        if not {"low", "high"} <= set(value) <= _RANGE_KEYS:
            raise ValueError(
                f"{name} must be a range like {{low = 16, high = 128, step = 16}}, "
                f"got the keys {sorted(value)}"
            )
        try:
            low, high = (whole(name, value[end], -LARGEST) for end in ("low", "high"))
            step = whole(name, value.get("step", 1), -LARGEST)
        except ValueError as error:
            raise ValueError(f"{name} must be a range of whole numbers, got {value}") from error
        if step < 1 or low > high:
            raise ValueError(
                f"{name} must be a range with low <= high and step >= 1, got an empty range "
                f"low = {low}, high = {high}, step = {step}"
            )
        if len(range(low, high + 1, step)) > MAX_CHOICES:
            raise ValueError(
                f"{name} must be a range of at most {MAX_CHOICES:,} choices, got "
                f"{len(range(low, high + 1, step)):,}; a larger step makes it shorter"
            )
        return _checked_choices(name, range(low, high + 1, step))
    return _checked_choices(name, value if isinstance(value, list) else [value])


def _checked_choices(name: str, values: object) -> Choices:
    checked = []
    for given in several(name, values, "choices"):
        value = whole(name, given, most=_MOST.get(name, LARGEST))
        if name.endswith("kernels") and value % 2 == 0:
            raise ValueError(f"{name} must be odd, such as 1, 3 or 5, got {value}")
        checked.append(value)
    if not checked:
        raise ValueError(f"{name} must have at least one choice, got an empty list")
    return tuple(sorted(set(checked)))
