"""Two studies side by side as one HTML page: what differs, what each found, what it cost."""

from html import escape
from itertools import pairwise
from pathlib import Path

import pandas as pd

from nas.report import figures, tables, words
from nas.report.document import Plot, document, write_page
from nas.report.final import chosen_in_words, cost, last_final
from nas.report.markup import Column, section, table
from nas.statistics import difference_interval
from nas.study.records import Outcome, StudyRecord
from nas.study.settings import flat, settings_to_json
from nas.text import millions, percent, percent_range, points, whole

# Accuracies that differ in one of these are not of the same images.
_IMAGES = {
    "dataset": "dataset",
    "dataset_digest": "training images",
    "input": "image shape or classes",
    "validation_images": "number of validation images",
    "split_seed": "split",
}
_STUDY = Column("study", "Study", kind="text")


def write_comparison(first: StudyRecord, second: StudyRecord, reports_dir: Path | str) -> Path:
    """Writes the comparison of two studies and returns its path. An older one is replaced.

    Raises:
        OSError: the directory or the file cannot be written; an older page is then unchanged.
    """
    page = render_comparison(first, second)
    return write_page(page, Path(reports_dir), first.name, second.name)


def render_comparison(first: StudyRecord, second: StudyRecord) -> str:
    """The comparison as one HTML document."""
    studies = _named(first, second)
    plots = [_incumbents(studies), _sizes(studies)]
    title = " and ".join(studies)
    apart = other_images(first, second)
    note = f'<div class="notes" role="note"><p>{escape(apart)}</p></div>\n' if apart else ""
    body = [
        f"<h1><small>Comparison of two searches</small>{escape(title)}</h1>",
        note,
        _found(studies),
        *(plot.section() for plot in plots),
        _cost(studies),
        _settings(studies),
    ]
    return document(f"{title} - comparison", body, plots)


def other_images(first: StudyRecord, second: StudyRecord) -> str:
    """Why the accuracies of two studies say nothing of each other; empty if they do."""
    names = [
        called
        for name, called in _IMAGES.items()
        if getattr(first.settings, name) != getattr(second.settings, name)
    ]
    if not names:
        return ""
    return (
        f"These accuracies are not comparable: the studies differ in {words.listed(names)}, so "
        "they were not measured on the same validation images. Sizes and costs are."
    )


def verdict(first: StudyRecord, second: StudyRecord) -> str:
    """Which study found the better design, as far as the validation images tell."""
    best = [(study, study.incumbent) for study in (first, second)]
    missing = [study.name for study, trial in best if trial is None or trial.val_accuracy is None]
    if missing:
        return f"{words.listed(missing)} found no design so far."
    if other_images(first, second):
        return "Which is better cannot be read from accuracies on different images."
    (high, better), (_, worse) = sorted(
        best, key=lambda pair: -(pair[1].val_accuracy or 0.0) if pair[1] else 0.0
    )
    assert better is not None
    assert worse is not None
    shares = better.val_accuracy or 0.0, worse.val_accuracy or 0.0
    gap = shares[0] - shares[1]
    if gap == 0:
        text = "Both reach the same validation accuracy"
    else:
        text = f"{high.name} is ahead by {points(gap).lstrip('+')} points"
    images = high.settings.validation_images
    if images < 1:
        return f"{text}."
    sure = difference_interval(shares[0], images, shares[1], images)
    text += (
        f"; the 95% interval of the difference, {points(sure.low)} to {points(sure.high)} points, "
    )
    text += (
        "holds 0, so these images do not settle which is better"
        if sure.low <= 0
        else "leaves out 0, so luck with these images alone does not explain it"
    )
    trained = [f"{whole(len(study.ranking))} of {study.name}" for study in (first, second)]
    return (
        f"{text}. Each is the best of its designs that were trained to the end "
        f"({words.listed(trained)}), and the more there are the more good luck is chosen with "
        "them. Two studies with one seed each say little of the ways of searching."
    )


def _named(first: StudyRecord, second: StudyRecord) -> dict[str, StudyRecord]:
    """The studies by names that differ."""
    if first.name != second.name:
        return {first.name: first, second.name: second}
    return {f"{first.name} (first)": first, f"{second.name} (second)": second}


def _found(studies: dict[str, StudyRecord]) -> str:
    rows = []
    for name, study in studies.items():
        best, final = study.incumbent, last_final(study)
        interval = None if best is None else words.interval_of(study, best)
        tested = None if final is None else final.exported.accuracy
        rows.append(
            {
                "study": name,
                "number": best and best.number,
                "design": best and best.design,
                "parameters": best and best.parameters,
                "mult_adds": best and best.mult_adds,
                "val_accuracy": best and best.val_accuracy,
                "interval": interval and percent_range(interval.low, interval.high),
                "tested": final and chosen_in_words(final),
                "test": tested and tested.value,
                "test_interval": tested and percent_range(tested.low, tested.high),
            }
        )
    columns = (
        _STUDY,
        Column("number", "Trial", _integer),
        Column("design", "Best design", kind="text design"),
        Column("parameters", "Parameters", _integer),
        Column("mult_adds", "Mult-adds", millions),
        Column("val_accuracy", "Validation accuracy", percent),
        Column("interval", "95% interval", kind="text"),
        Column("tested", "Tested design", kind="text design"),
        Column("test", "Test accuracy", percent),
        Column("test_interval", "95% interval", kind="text"),
    )
    content = table(tables.frame_of(rows), columns, caption="What was found")
    return section("Found", f"<p>{escape(verdict(*studies.values()))}</p>{content}")


def _incumbents(studies: dict[str, StudyRecord]) -> Plot:
    frame = pd.concat(
        [tables.incumbent_by_effort(s).assign(study=name) for name, s in studies.items()]
    )
    columns = (
        _STUDY,
        Column("trained", "Designs trained", _integer),
        Column("incumbent", "Incumbent (trial)", _integer),
        Column("val_accuracy", "Validation accuracy", percent),
    )
    return Plot(
        "incumbents",
        "Incumbent by designs trained",
        "Look at which line is higher for the same number of trained designs, not only at its end.",
        table(frame, columns, caption="Incumbent by designs trained"),
        None if frame.empty else figures.figure_json(figures.compared_incumbents(frame)),
    )


def _sizes(studies: dict[str, StudyRecord]) -> Plot:
    frame = pd.concat([tables.trials_table(s).assign(study=name) for name, s in studies.items()])
    frame = frame[frame["outcome"] == figures.TRAINED].dropna(subset=["val_accuracy", "parameters"])
    columns = (
        _STUDY,
        Column("number", "Trial", _integer),
        Column("design", "Design", kind="text design"),
        Column("parameters", "Parameters", _integer),
        Column("val_accuracy", "Validation accuracy", percent),
    )
    return Plot(
        "sizes",
        "Accuracy and size",
        "Look at the sizes that each study tried, and at which is more accurate at the same size; "
        "only designs that were trained to the end are shown.",
        table(frame, columns, caption="Accuracy and size"),
        None if frame.empty else figures.figure_json(figures.compared_sizes(frame)),
    )


def _cost(studies: dict[str, StudyRecord]) -> str:
    rows = [
        {
            "study": name,
            "trials": len(study.trials),
            "trained": study.trained,
            "stopped": study.outcomes[Outcome.STOPPED_EARLY],
            "saved": words.epochs_saved(study),
            "seconds": words.training_seconds(study),
            "minutes": words.device_minutes(study) or None,
            "devices": words.listed(words.devices(study)) or None,
            "final": (final := last_final(study)) and cost(final),
        }
        for name, study in studies.items()
    ]
    columns = (
        _STUDY,
        Column("trials", "Trials", _integer),
        Column("trained", "Designs trained", _integer),
        Column("stopped", "Stopped early", _integer),
        Column("saved", "Epochs saved", _integer),
        Column("seconds", "Search: training time", words.duration, exact=True),
        Column("minutes", "By device", kind="text"),
        Column("devices", "Devices", kind="text long"),
        Column("final", "Final training", kind="text long"),
    )
    return section("Cost", table(tables.frame_of(rows), columns, caption="What it cost"))


def _settings(studies: dict[str, StudyRecord]) -> str:
    said = [_settings_of(study) for study in studies.values()]
    names = list(dict.fromkeys(name for settings in said for name in settings))
    different = [n for n in names if any(a.get(n) != b.get(n) for a, b in pairwise(said))]
    if not different:
        return section("Settings that differ", "<p>None: both were made in the same way.</p>")
    first, second = said
    frame = tables.frame_of(
        {"setting": name, "first": first.get(name), "second": second.get(name)}
        for name in different
    )
    columns = (
        Column("setting", "Setting", kind="text"),
        *(
            Column(place, name, kind="text long")
            for place, name in zip(("first", "second"), studies, strict=True)
        ),
    )
    return section("Settings that differ", table(frame, columns, caption="Settings that differ"))


def _settings_of(study: StudyRecord) -> dict[str, str]:
    """Everything a study was made with, as text."""
    settings = {
        name.replace(".", ": ").replace("_", " "): "none"
        if value is None
        else words.choices_in_words(value)
        for name, value in flat(settings_to_json(study.settings)).items()
    }
    searches = {
        name: words.listed(found)
        for name in ("sampler", "pruner", "objectives", "seed")
        if (found := words.said_by_searches(study, name))
    }
    versions = {f"version of {package}": version for package, version in study.versions.items()}
    return {**settings, **searches, **versions}


def _integer(value: float) -> str:  # a column with gaps holds floats
    return whole(int(value))
