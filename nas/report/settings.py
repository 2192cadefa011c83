"""What a study was made with: its settings, where it ran, and every search of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise

from markupsafe import Markup

from nas.counting import LIMITED
from nas.report.document import Section
from nas.report.html import html
from nas.report.overview import devices, searched
from nas.report.tables import MISSING, Column, facts, frame_of, integer, table
from nas.report.words import listed, subset_in_words
from nas.study.latencies import machine_in_words
from nas.study.records import StudyRecord
from nas.text import plural, whole


def settings(study: StudyRecord) -> Section:
    """The section."""
    s = study.settings
    asked = {
        "Dataset": s.dataset,
        "Dataset digest": s.dataset_digest,
        "Images": str(s.input),
        "Training images": whole(s.train_images),
        "Validation images": whole(s.validation_images),
        "Subset": subset_in_words(study),
        "Split seed": str(s.split_seed),
        **{
            cost.limit.capitalize(): cost.exactly(s.limits[name]) if name in s.limits else "none"
            for name, cost in LIMITED.items()
            if cost.always or name in s.limits
        },
        **({"Limit of latency": str(s.latency)} if s.latency else {}),
    }
    tuning = {name: listed(values, "or") for name, values in s.tuning.items()}
    parts = {
        "Search space": facts(
            _named({name: choices_in_words(value) for name, value in s.space.items()})
        ),
        "Recipe": facts(_named({**s.recipe, "precision": s.precision})),
        **({"Tuned in it": facts(_named(tuning))} if tuning else {}),
        "Versions": facts(study.versions),
        "Hardware": facts(_hardware(study)),
        "Origin": facts(_origin(study)),
        "Searches": _searches(study),
    }
    return Section(
        "Settings", html("settings.html", searched=searched(study), asked=facts(asked), parts=parts)
    )


def _named(values: Mapping[str, object]) -> dict[str, str]:
    return {name.replace("_", " "): str(value) for name, value in values.items()}


def _hardware(study: StudyRecord) -> dict[str, str]:
    trained_on = [trial.device for trial in study.trials]
    runs = {device: plural(trained_on.count(device), "run") for device in devices(study)}
    machines = listed([machine_in_words(machine) for machine in study.latency_machines])
    return runs | ({"Latencies": machines} if machines else {})


def _origin(study: StudyRecord) -> dict[str, str]:
    workers = sorted({t.worker for t in study.trials if t.worker is not None})
    starts = [t.started for t in study.trials if t.started is not None]
    ends = [t.finished for t in study.trials if t.finished is not None]
    return {
        "Seed": MISSING if study.seed is None else str(study.seed),
        "Workers": listed(shortened(workers)) or MISSING,
        "First trial started": _time(min(starts, key=datetime.timestamp, default=None)),
        "Last trial finished": _time(max(ends, key=datetime.timestamp, default=None)),
    }


def _time(moment: datetime | None) -> str:
    return MISSING if moment is None else moment.isoformat(sep=" ", timespec="seconds")


def _searches(study: StudyRecord) -> Markup:
    """Every command that searched in the study, with what may change between them."""
    columns = (
        Column("number", "Search", integer),
        Column("started", "Started", kind="text"),
        Column("sampler", "Sampler", kind="text"),
        Column("pruner", "Pruner", kind="text"),
        Column("objectives", "Objectives", kind="text"),
        Column("time", "Time", kind="text"),
        Column("seed", "Seed"),
        Column("command", "Command", kind="text long code"),
        Column("versions", "Versions", kind="text long"),
    )
    searches = study.searches or ({"command": study.command, "seed": study.seed},)
    rows: list[dict[str, object]] = [
        {"number": number} | {c.name: _text(search.get(c.name)) for c in columns[1:]}
        for number, search in enumerate(searches, start=1)
    ]
    return table(frame_of(rows), columns, caption="Searches of the study")


def _text(value: object) -> str | None:
    """What a search says of itself, as text; None if nothing."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return None if value is None else str(value)


def shortened(items: Sequence[str], most: int = 20) -> list[str]:
    """The first items, and how many more there are."""
    rest = len(items) - most
    return [*items[:most], f"{whole(rest)} more"] if rest > 0 else list(items)


def choices_in_words(choices: object) -> str:
    """The choices of a search space for one field: plain lists, as a study records them."""
    if not isinstance(choices, Sequence) or isinstance(choices, str):
        return str(choices)
    if choices and all(isinstance(stage, Sequence) for stage in choices):
        stages = [choices_in_words(stage) for stage in choices]
        if len(set(stages)) == 1:
            return stages[0] + (" in every stage" if len(stages) > 1 else "")
        return "; ".join(f"stage {i}: {stage}" for i, stage in enumerate(stages, start=1))
    steps = {b - a for a, b in pairwise(choices)}
    if len(choices) > 4 and len(steps) == 1:
        return f"{choices[0]} to {choices[-1]} in steps of {steps.pop()}"
    return listed(choices, "or")
