"""`nas search`: find the most accurate network that fits a parameter budget."""

import argparse
import dataclasses
import json
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nas.architecture import FIELD_NAMES
from nas.commands import arguments
from nas.commands.loading import loading, log_file
from nas.commands.words import COLUMNS, described, designs_finished, finished, of_asked
from nas.counting import COSTS, LIMITED
from nas.errors import RequestError
from nas.runtime import signals
from nas.runtime.precision import AUTO
from nas.search.request import SearchRequest
from nas.study.location import NoStudy, StudyLocation, check_directory
from nas.study.records import training_in_words
from nas.text import duration, percent

if TYPE_CHECKING:  # torch and Optuna load in seconds; bad usage must be known before
    from nas.search.run import SearchResult
    from nas.study.records import StudyRecord, TrialRecord

SUMMARY = "find the most accurate network that fits a parameter budget"

_GROUPS = {
    "basics": ("max_parameters", "trials", "time", "study"),
    "data": ("dataset", "data_dir", "subset", "skip_broken", "drop_duplicates"),
    "training": ("epochs", "tune", "precision"),
    "search": (),  # all that no other names
    "machine": ("device", "workers", "threads", "per_gpu", "grace"),
    "output": ("studies_dir", "storage"),
}
_SHOWN = 10  # designs in the printed ranking
_DESIGN = 24  # columns that a design has beside its costs, or it stands below them
_INDENT = 13
_FEW = 10  # designs, fewer than which are not much of a search


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas search`."""
    output = arguments.add_groups(parser, SearchRequest, _GROUPS)
    arguments.add_reports_option(output)
    arguments.add_display_options(output)
    arguments.add_json_option(output)


def run(options: argparse.Namespace) -> int:
    """Searches, writes the report and prints the ranking."""
    with log_file(options.log_file) as log:
        return _search(options, log)


def _search(options: argparse.Namespace, log: TextIO | None) -> int:
    with loading("loading PyTorch", quiet=options.quiet):
        request = _request(options)
        request.check()
        check_directory("--reports-dir", options.reports_dir)
        from nas.data.sources import check_place

        check_place(request.dataset, request.data_dir)
        import optuna
        from rich.console import Console

        from nas.commands.progress import SearchProgress
        from nas.final.request import final_folder
        from nas.report.page import write_report
        from nas.search.run import SearchFailed, run_search
    signals.check()  # one that came while these were loaded
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the progress says it all
    progress = SearchProgress(Console(stderr=True), request, quiet=options.quiet, log=log)
    with progress:
        try:
            result = run_search(request, progress, command=options.typed)
        except SearchFailed as error:
            return progress.fail(f"error: {error}", 1)
        except KeyboardInterrupt:
            again = "the same command"
            if progress.location is not None:
                again = _continuing(progress.location.name, request)
            so_far = designs_finished(progress.done, progress.trials)
            return progress.fail(f"interrupted: {so_far}; {again} continues", signals.INTERRUPTED)
        if result.newly_trained:
            progress.conclude()
    try:
        folder = final_folder(request.studies_dir, result.location)
        with loading("writing the report", quiet=options.quiet):
            report = write_report(result.study, options.reports_dir, final_folder=folder)
    except OSError as error:
        return progress.fail(
            f"error: {result.location} is complete, but its report could not be written: {error}; "
            "free some space and run nas report",
            1,
        )
    if options.json:
        print(json.dumps(_document(result, report, request), indent=2))
    else:
        print(_text(result, report, request))
    return 0


def _request(options: argparse.Namespace) -> SearchRequest:
    """What is asked for: what the options say, else what the study says, else the defaults.

    Raises:
        RequestError: a value is out of its range, or a new study has no budget.
        StudyError: the study cannot be read.
    """
    given = {"workers": AUTO, **arguments.given(options, SearchRequest)}
    if options.trials is not None:
        given |= {"trials": options.trials.number, "additional": options.trials.additional}
    if options.study is not None:
        location = StudyLocation.at(
            options.study, studies_dir=options.studies_dir, storage=options.storage
        )
        from nas.search.continuing import continued
        from nas.study.reader import read_study

        try:
            return continued(read_study(location), given)
        except NoStudy as error:
            if not {"target", "max_latency", *(cost.maximum for cost in LIMITED.values())} & set(
                given
            ):
                raise RequestError(
                    f"{error}; a new study needs a --budget or another limit"
                ) from error
    return SearchRequest(**given)


def _document(result: "SearchResult", report: Path, request: SearchRequest) -> dict[str, Any]:
    study = result.study
    front = study.pareto_front(_size(request))
    return {
        "study": study.name,
        "storage": str(result.location),
        "report": str(report),
        "dataset": study.settings.dataset,
        **dataclasses.asdict(study.settings.limits),
        **(
            dict(latency_limit=dataclasses.asdict(limit))
            if (limit := study.settings.latency)
            else {}
        ),
        "ending": result.ending.value,
        "trained": study.trained,
        "newly_trained": result.newly_trained,
        "outcomes": {outcome.value: n for outcome, n in study.outcomes.items()},
        "notes": list(study.notes),
        "incumbent": _trial_document(study.incumbent) if study.incumbent else None,
        "ranking": [_trial_document(trial) for trial in study.ranking],
        "objectives": list(request.objectives),
        "pareto_front": [_trial_document(t) for t in front if t.architecture],
    }


def _trial_document(trial: "TrialRecord") -> dict[str, Any]:
    design = trial.architecture
    assert design is not None
    return {
        "trial": trial.number,
        "val_accuracy": trial.val_accuracy,
        **{name: getattr(trial, name) for name in COSTS},
        **(
            {"latency_ms": trial.latency_ms, "latency_estimate_ms": trial.latency_estimate_ms}
            if trial.latency_estimate_ms
            else {}
        ),
        **{name: getattr(design, name) for name in FIELD_NAMES},
        **({"preset": trial.preset} if trial.preset else {}),
        **trial.training,
    }


def _text(result: "SearchResult", report: Path, request: SearchRequest) -> str:
    from nas.report.health import health, problems
    from nas.report.tested import last_final
    from nas.search.expected import expected_best

    study = result.study
    so_far = designs_finished(study.trained, result.trials)
    lines = []
    if result.ending == "exhausted":
        lines.append(
            f"Every design of the space within the limits has been tried: {study.trained} of "
            f"the {result.trials} asked for."
        )
    elif result.ending == "timeout":
        lines.append(f"Time is up: {so_far}; {_continuing(study.name, request)} continues.")
    elif result.ending == "time_up":
        limit = study.searches[-1].get("time")
        lines.append(
            f"The time is up, {limit} over all searches: {so_far}; "
            f"{_continuing(study.name, request)} --time none continues without a limit."
        )
        seconds = [trial.seconds for trial in study.trials if trial.seconds]
        if study.trained < _FEW and seconds:
            mean = duration(sum(seconds) / len(seconds))
            lines.append(f"A design took {mean} on average here, so only a few fit.")
    elif not result.newly_trained:
        lines.append(f"Nothing left to do: {so_far}. To add trials: --trials +20")
    lines += [*_ranking(study), ""]
    if len(request.objectives) > 1 and study.ranking:
        size = _size(request)
        lines.append(f"Pareto front, each more accurate than all with no more {COSTS[size].units}:")
        lines += [*_table(study, study.pareto_front(size), "no."), ""]
    if expected := expected_best(study):
        lines.append(f"best by the Gaussian process fitted to all designs: {expected}")
    for finding in problems(health(study, last_final(study))):
        lines.append(f"{finding.level.lower():<7} {finding.about}: {finding.sentence}")
    if request.dataset == AUTO and study.settings.dataset == "digits":
        lines.append("data    handwritten digits, since CIFAR-10 could not be downloaded")
    counted = finished(study.outcomes, study.interrupted)
    lines.append(f"trials  finished {of_asked(study.trained, result.trials)}: {counted}")
    lines.append(f"study   {result.location}")
    lines.append(f"report  {report}")
    lines += _next_commands(study, request, report.parent)
    return "\n".join(lines)


def _next_commands(study: "StudyRecord", request: SearchRequest, reports_dir: Path) -> list[str]:
    """What can be done with the study now, as it is to be typed."""
    reports = ""
    if str(reports_dir) != "reports":
        reports = f" --reports-dir {shlex.quote(str(reports_dir))}"
    which = _which(study.name, request)
    lines = [
        f"next    python -m nas.dashboard{which}",
        f"        python -m nas.report{which}{reports}",
    ]
    if study.ranking:
        lines.append(f"        python -m nas.final{which}{reports}")
    return lines


def _continuing(name: str, request: SearchRequest) -> str:
    """The command that goes on with the study, whatever it was begun with."""
    return f"python -m nas.search{_which(name, request)}"


def _which(name: str, request: SearchRequest) -> str:
    """The options that name the study to any command."""
    which = f" --study {shlex.quote(name)}"
    if request.storage is not None:
        which += " --storage URL"  # not repeated as it was given: it may hold a password
    if str(request.studies_dir) != "studies":
        which += f" --studies-dir {shlex.quote(str(request.studies_dir))}"
    return which


def _ranking(study: "StudyRecord") -> list[str]:
    if not study.ranking:
        return ["No design was trained to the end."]
    return _table(study, study.ranking[:_SHOWN], "rank")


def _size(request: SearchRequest) -> str:
    """What the Pareto front weighs accuracy against."""
    return request.objectives[1] if len(request.objectives) > 1 else "parameters"


def _table(study: "StudyRecord", shown: "Sequence[TrialRecord]", first: str) -> list[str]:
    """A row for each trial, no wider than a terminal: long designs go on in a line below."""
    from nas.study.chance import at_chance

    columns = [
        [cost.title, *(cost.rounded(getattr(trial, cost.name)) for trial in shown)]
        for cost in study.shown_costs
    ]
    if study.settings.latency:
        latencies = (trial.latency_ms or trial.latency_estimate_ms for trial in shown)
        columns.append(["latency ms", *("-" if ms is None else f"{ms:.3g}" for ms in latencies)])
    columns = [[f"  {cell:>{max(map(len, cells))}}" for cell in cells] for cells in columns]
    head, *rows = ("".join(cells) for cells in zip(*columns, strict=True))
    lines = [f"{first:>4}  trial  accuracy{head}  design"]
    for rank, (trial, cells) in enumerate(zip(shown, rows, strict=True), start=1):
        row = f"{rank:>4}  {trial.number:>5}  {percent(trial.val_accuracy):>8}{cells}  "
        indent = len(row) if len(row) <= COLUMNS - _DESIGN else _INDENT
        design = textwrap.wrap(described(trial), COLUMNS - indent, break_on_hyphens=False)
        design += [training_in_words(trial.training)] if trial.training else []
        design += ["at chance: no better than guessing"] if at_chance(study, trial) else []
        lines.append(row + (design.pop(0) if indent == len(row) else ""))
        lines += [" " * indent + more for more in design]
    return [line.rstrip() for line in lines]
