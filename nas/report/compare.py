"""Two studies side by side as one HTML page: what differs, what each found, what it cost."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from nas.counting import COSTS
from nas.final.records import FinalRecord
from nas.report.axes import accuracy_axis, size_axis, whole_axis
from nas.report.document import Section, document, figure_section, section, write_page
from nas.report.overview import device_minutes, devices, stopping, training_seconds
from nas.report.progress import incumbent_table
from nas.report.settings import choices_in_words
from nas.report.tables import (
    INTERVAL,
    PARAMETERS,
    TRIAL,
    VAL_ACCURACY,
    Column,
    cost_columns,
    frame_of,
    integer,
    table,
    typed_frame,
)
from nas.report.tested import chosen_in_words, final_cost, last_final
from nas.report.theme import BLUE, ORANGE, empty_figure, hover, plain, rounded
from nas.report.trials import trials_table
from nas.report.words import TRAINED, interval_of, listed, search_values
from nas.statistics import difference_interval
from nas.study.records import StudyRecord
from nas.study.settings import called, changes
from nas.text import duration, percent, percent_range, plural, points, whole

# Accuracies of studies that differ in one of these are not of the same images.
_IMAGES = ("dataset", "dataset_digest", "input", "validation_images", "split_seed")
_STUDY = Column("study", "Study", kind="text name")
_SIDES = (  # how two studies are told apart
    {"color": BLUE, "dash": "solid", "symbol": "circle"},
    {"color": ORANGE, "dash": "dash", "symbol": "diamond"},
)


def write_comparison(first: StudyRecord, second: StudyRecord, reports_dir: Path | str) -> Path:
    """Writes the comparison of two studies and returns its path. An older one is replaced.

    Raises:
        OSError: the directory or the file cannot be written; an older page is then unchanged.
        ValueError: both studies have the same name.
    """
    page = render_comparison(first, second)
    return write_page(page, Path(reports_dir), first.name, second.name)


def render_comparison(first: StudyRecord, second: StudyRecord) -> str:
    """The comparison as one HTML document.

    Raises:
        ValueError: both studies have the same name.
    """
    if first.name == second.name:
        raise ValueError(f"expected two studies of different names, got {first.name!r} twice")
    studies = {study.name: study for study in (first, second)}
    name = " and ".join(studies)
    apart = other_images(first, second)
    finals = {name: last_final(study) for name, study in studies.items()}
    return document(
        name,
        "Comparison of two searches",
        [
            _found(studies, finals),
            _incumbents(studies),
            _sizes(studies),
            _cost(studies, finals),
            _settings(studies),
        ],
        title=f"{name} - comparison",
        notes=[apart] if apart else [],
    )


def other_images(first: StudyRecord, second: StudyRecord) -> str:
    """Why the accuracies of two studies say nothing of each other; empty if they do."""
    different = changes(first.settings, second.settings)
    names = [called(name) for name in _IMAGES if name in different]
    if not names:
        return ""
    return (
        f"These accuracies are not comparable: the studies differ in {listed(names)}, so "
        "they were not measured on the same validation images. Sizes and costs are comparable."
    )


def verdict(first: StudyRecord, second: StudyRecord) -> str:
    """Which study found the better design, as far as the validation images tell."""
    found = {
        study.name: best.val_accuracy
        for study in (first, second)
        if (best := study.incumbent) is not None and best.val_accuracy is not None
    }
    missing = [study.name for study in (first, second) if study.name not in found]
    if missing:
        return f"{listed(missing)} found no design so far."
    if other_images(first, second):
        return "Accuracies on different images do not show which is better."
    (better, high), (_, low) = sorted(found.items(), key=lambda pair: -pair[1])
    if high == low:
        text = "Both reach the same validation accuracy"
    else:
        text = f"{better} is ahead by {points(high - low).lstrip('+')} points"
    images = first.settings.validation_images
    if images < 1:
        return f"{text}."
    sure = difference_interval(high, images, low, images)
    text += (
        f"; the 95% interval of the difference, {points(sure.low)} to {points(sure.high)} points, "
    )
    text += (
        "contains 0, so these images do not decide which is better"
        if sure.low <= 0
        else "excludes 0, so chance in these images alone does not explain it"
    )
    trained = [f"{whole(len(study.ranking))} of {study.name}" for study in (first, second)]
    return (
        f"{text}. Each is the best of its designs that were trained to the end "
        f"({listed(trained)}), and the more there are, the more luck is selected with "
        "them. Two studies with one seed each say little about the search methods."
    )


def _found(studies: dict[str, StudyRecord], finals: dict[str, FinalRecord | None]) -> Section:
    rows = []
    for name, study in studies.items():
        best, final = study.incumbent, finals[name]
        interval = None if best is None else interval_of(study, best)
        tested = None if final is None else final.exported.accuracy
        rows.append(
            {
                "study": name,
                "number": best and best.number,
                "design": best and best.design,
                **{cost: getattr(best, cost, None) for cost in COSTS},
                "val_accuracy": best and best.val_accuracy,
                "interval": interval and percent_range(interval.low, interval.high),
                "tested": final and chosen_in_words(final),
                "test": tested and tested.value,
                "test_interval": tested and percent_range(tested.low, tested.high),
            }
        )
    columns = (
        _STUDY,
        TRIAL,
        Column("design", "Best design", kind="text design"),
        *cost_columns(*studies.values()),
        VAL_ACCURACY,
        INTERVAL,
        Column("tested", "Tested design", kind="text design"),
        Column("test", "Test accuracy", percent),
        Column("test_interval", "95% interval", kind="text"),
    )
    content = table(frame_of(rows), columns, caption="What was found")
    return section("Found", verdict(*studies.values()), content)


def _incumbents(studies: dict[str, StudyRecord]) -> Section:
    efforts = {name: incumbent_by_effort(study) for name, study in studies.items()}
    parts = [steps.assign(study=name) for name, steps in efforts.items()]
    frame = pd.concat(parts, ignore_index=True)
    columns = (
        _STUDY,
        Column("trained", "Designs trained", integer),
        Column("incumbent", "Incumbent (trial)", integer),
        VAL_ACCURACY,
    )
    return figure_section(
        "incumbents",
        "Incumbent by designs trained",
        at_equal_effort(efforts),
        table(frame, columns, caption="Incumbent by designs trained"),
        None if frame.empty else incumbents_figure(frame, _looks(studies)),
    )


def at_equal_effort(efforts: dict[str, pd.DataFrame]) -> str:
    """What each study had found when it had trained as many designs as the other.

    Args:
        efforts: `incumbent_by_effort` of each, by its name.
    """
    missing = [name for name, steps in efforts.items() if steps.empty]
    if missing:
        return f"No design was trained to the end in {listed(missing)}."
    designs = min(int(steps["trained"].max()) for steps in efforts.values())
    found = []
    for name, steps in efforts.items():
        so_far = steps[steps["trained"] <= designs]["val_accuracy"].tolist()
        best = percent(so_far[-1]) if so_far else "no design trained to the end"
        found.append(f"{name} had {best}")
    return f"After {plural(designs, 'trained design')} each, {listed(found)}."


def incumbent_by_effort(study: StudyRecord) -> pd.DataFrame:
    """The incumbent by how many designs were trained, stopped early or not: `trained`.

    One row for each new incumbent, and one for the end.
    """
    counting = sorted(t.number for t in study.trials if t.counts)
    place = {number: count for count, number in enumerate(counting, start=1)}
    found = incumbent_table(study)
    found["trained"] = found["number"].map(place).astype("Int64")
    steps = found.drop_duplicates("incumbent")
    if found.empty:
        return steps
    last = found.tail(1).assign(trained=len(counting))
    return pd.concat([steps, last]).drop_duplicates("trained")  # the last design may be a new one


def _sizes(studies: dict[str, StudyRecord]) -> Section:
    parts = [trials_table(s.trials).assign(study=name) for name, s in studies.items()]
    frame = pd.concat(parts, ignore_index=True)
    frame = frame[frame["outcome"] == TRAINED].dropna(subset=["val_accuracy", "parameters"])
    columns = (
        _STUDY,
        TRIAL,
        Column("design", "Design", kind="text design"),
        PARAMETERS,
        VAL_ACCURACY,
    )
    return figure_section(
        "sizes",
        "Trade-off",
        "Designs that were trained to the end; those far below the others are not drawn.",
        table(frame, columns, caption="Trade-off"),
        None if frame.empty else sizes_figure(frame, _looks(studies)),
    )


def _cost(studies: dict[str, StudyRecord], finals: dict[str, FinalRecord | None]) -> Section:
    rows = [
        {
            "study": name,
            "trials": len(study.trials),
            "trained": study.trained,
            "stopped": len((stopped := stopping(study)).by_pruner),
            "timed": stopped.at_time_limit,
            "saved": stopped.saved,
            "seconds": training_seconds(study),
            "minutes": device_minutes(study) or None,
            "devices": listed(devices(study)) or None,
            "final": (final := finals[name]) and final_cost(final),
        }
        for name, study in studies.items()
    ]
    columns = (
        _STUDY,
        Column("trials", "Trials", integer),
        Column("trained", "Designs trained", integer),
        Column("stopped", "Stopped early", integer),
        Column("timed", "At the time limit", integer),
        Column("saved", "Epochs saved", integer),
        Column("seconds", "Search: training time", duration, exact=True),
        Column("minutes", "By device", kind="text"),
        Column("devices", "Devices", kind="text long"),
        Column("final", "Final training", kind="text long"),
    )
    return section("Cost", table(frame_of(rows), columns, caption="What it cost"))


def _settings(studies: dict[str, StudyRecord]) -> Section:
    different = settings_table(*studies.values())
    if different.empty:
        return section("Settings that differ", "None: both used the same settings.")
    columns = (
        Column("setting", "Setting", kind="text"),
        *(
            Column(place, name, kind="text long")
            for place, name in zip(("first", "second"), studies, strict=True)
        ),
    )
    return section(
        "Settings that differ", table(different, columns, caption="Settings that differ")
    )


def settings_table(first: StudyRecord, second: StudyRecord) -> pd.DataFrame:
    """Each `setting` that differs, in the `first` study and in the `second`, as text."""
    different: dict[str, tuple[str | None, str | None]] = {
        name.replace(".", ": ").replace("_", " "): (_shown(one), _shown(other))
        for name, (one, other) in changes(first.settings, second.settings).items()
    }
    ones, others = _searches(first), _searches(second)
    different |= {
        name: (ones.get(name), others.get(name))
        for name in dict.fromkeys([*ones, *others])
        if ones.get(name) != others.get(name)
    }
    return typed_frame(
        (
            {"setting": name, "first": one, "second": other}
            for name, (one, other) in different.items()
        ),
        texts="setting first second",
    )


def _shown(value: object) -> str:
    return "none" if value is None else choices_in_words(value)


def _searches(study: StudyRecord) -> dict[str, str]:
    """What the searches of a study say of themselves, and the versions that made it."""
    searches = {
        name: listed(found)
        for name in ("sampler", "pruner", "objectives", "seed")
        if (found := search_values(study, name))
    }
    versions = {f"version of {package}": version for package, version in study.versions.items()}
    return {**searches, **versions}


def _looks(studies: Iterable[str]) -> dict[str, dict[str, str]]:
    """How each study is drawn, in every figure alike."""
    return dict(zip(studies, _SIDES, strict=True))


def incumbents_figure(
    incumbents: pd.DataFrame, looks: Mapping[str, Mapping[str, str]]
) -> go.Figure:
    """Step lines of `incumbent_by_effort`, one for each `study`, which looks as `looks` says."""
    figure = empty_figure("designs trained", "")
    axis = accuracy_axis(incumbents["val_accuracy"].dropna().tolist())
    for name, steps in incumbents.groupby("study", sort=False):
        look = looks[str(name)]
        figure.add_scatter(
            x=steps["trained"].tolist(),
            y=axis.y(steps["val_accuracy"]),
            customdata=rounded(steps["val_accuracy"]),
            name=plain(name),
            mode="lines+markers",
            line={"color": look["color"], "dash": look["dash"], "width": 2.5, "shape": "hv"},
            marker={"color": look["color"], "symbol": look["symbol"], "size": 8},
            hovertemplate="%{x} designs: %{customdata:.2%}",
        )
    figure.update_xaxes(whole_axis(incumbents["trained"].tolist()))
    return figure.update_yaxes(axis.layout("validation accuracy"))


def sizes_figure(trials: pd.DataFrame, looks: Mapping[str, Mapping[str, str]]) -> go.Figure:
    """Validation accuracy against parameters, with the trials of each `study` told apart.

    Designs that are far below the others are left out.
    """
    figure = empty_figure("parameters", "")
    axis = accuracy_axis(trials["val_accuracy"].tolist())
    trials = trials[trials["val_accuracy"].map(axis.holds).astype(bool)]
    for name, shown in trials.groupby("study", sort=False):
        look = looks[str(name)]
        figure.add_scatter(
            x=shown["parameters"].tolist(),
            y=axis.y(shown["val_accuracy"]),
            name=plain(name),
            mode="markers",
            marker={"color": look["color"], "symbol": look["symbol"], "size": 9},
            **hover(shown, "parameters", str(name)),
        )
    figure.update_xaxes(size_axis(trials["parameters"].tolist()))
    return figure.update_yaxes(axis.layout("validation accuracy"))
