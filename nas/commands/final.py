"""`nas final`: the best designs in full, one chosen, tested once, exported."""

import argparse
import json
import shlex
import textwrap
from typing import TYPE_CHECKING, TextIO

from nas.commands import arguments
from nas.commands.loading import loading, log_file
from nas.commands.words import COLUMNS
from nas.counting import LIMITED
from nas.export.spec import CARD, DESCRIPTION, GRAPH, METRICS, WEIGHTS
from nas.final.request import RUNS, FinalRequest
from nas.runtime import signals
from nas.runtime.precision import AUTO
from nas.search.continuing import data_options
from nas.study.location import StudyLocation, check_directory
from nas.text import percent, plural, share, times

if TYPE_CHECKING:  # torch loads in seconds; bad usage must be known before
    from nas.final.final import FinalResult
    from nas.final.records import FinalDesign, FinalRecord, Measured

_GROUPS = {
    "basics": (),  # all that no other names
    "data": ("data_dir", "subset", "skip_broken", "drop_duplicates", "on"),
    "training": ("recipe", "epochs", "precision"),
    "machine": ("device", "workers", "threads", "per_gpu"),
    "output": ("export", "max_int8_loss", "studies_dir", "storage"),
}

SUMMARY = "train a study's best designs in full, choose one, test it once and export it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas final`."""
    output = arguments.add_groups(parser, FinalRequest, _GROUPS)
    arguments.add_reports_option(output)
    arguments.add_display_options(output)
    arguments.add_json_option(output)


def run(options: argparse.Namespace) -> int:
    """Trains, tests, exports, writes the report again and prints what was found."""
    with log_file(options.log_file) as log:
        return _final(options, log)


def _final(options: argparse.Namespace, log: TextIO | None) -> int:
    request = FinalRequest(**{"workers": AUTO, **arguments.given(options, FinalRequest)})
    location = StudyLocation.at(
        request.study, studies_dir=request.studies_dir, storage=request.storage
    )
    with loading("loading PyTorch", quiet=options.quiet):
        from nas.data.sources import check_place
        from nas.study.reader import read_study

        study = read_study(location)
        if not study.readings:  # after which they may be missing
            data = data_options(study, data_dir=request.data_dir)
            check_place(data.dataset, data.data_dir)
        check_directory("--reports-dir", options.reports_dir)
        import optuna
        from rich.console import Console

        from nas.commands.final_progress import FinalProgress
        from nas.final import words
        from nas.final.final import FinalFailed, run_final
        from nas.report.page import write_report
    signals.check()  # one that came while these were loaded
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    progress = FinalProgress(Console(stderr=True), quiet=options.quiet, log=log)
    with progress:
        if short := words.too_short(request.recipe, request.epochs):
            progress.warn(f"NOTE: {short}")
        try:
            result = run_final(request, progress, command=options.typed)
        except FinalFailed as error:
            return progress.fail(f"error: {error}", 1)
        except OSError as error:
            return progress.fail(
                f"error: the runs or the model could not be written: {error}; free some space or "
                "restore what was moved, and run the same command again",
                1,
            )
        except KeyboardInterrupt:
            return progress.fail("interrupted; the same command continues", signals.INTERRUPTED)
        if result.tested_now:
            progress.conclude()
    try:
        with loading("writing the report", quiet=options.quiet):
            study = read_study(location)
            report = write_report(study, options.reports_dir, final_folder=result.folder)
    except OSError as error:
        return progress.fail(
            f"error: {result.folder} is complete, but the report could not be written: {error}; "
            "free some space and run nas report",
            1,
        )
    if not result.tested_now:
        progress.say(
            f"Nothing left to do: the test images were read on {result.record.read[:10]} for this "
            "same choice, and are not read again (--again would do that).",
            important=True,
        )
    if options.json:
        document = {**result.record.to_dict(), "folder": str(result.folder), "report": str(report)}
        print(json.dumps(document, indent=2))
    else:
        print(_text(result, str(report)))
    for reason in result.refused:
        progress.fail(f"error: {reason}", 1)
    return 1 if result.refused else 0


def _text(result: "FinalResult", report: str) -> str:
    from nas.final import words
    from nas.final.testing import MISTAKES

    record = result.record
    chosen, exported = record.chosen, record.exported
    lines = [*_table(record), ""]
    if len(record.finalists) > 1:
        lines.append(f"choice  {chosen.name}. {words.choice(record)}")
    designs = (*record.finalists, *record.references)
    lines += [f"teacher {words.distilled(design)}" for design in designs if design.distilled]
    lines += [f"note    {note}" for note in record.notes]
    lines += [f"gain    {words.gain(gain)}" for gain in record.gains]
    costs = [
        f"{cost.exactly(getattr(chosen, name))} "
        f"({share(getattr(chosen, name) / record.limits[name])} of the {cost.limit})"
        for name, cost in LIMITED.items()
        if name in record.limits
    ]
    costs += [words.latency(record.latency)] if record.latency else []
    files = [WEIGHTS, GRAPH, *record.int8_files, DESCRIPTION, METRICS, CARD]
    lines += [
        f"model   {chosen.name}, seed {exported.seed}: {percent(exported.accuracy.value)} of "
        f"{plural(record.test_images, 'test image')} (95% interval "
        f"{words.interval(exported.accuracy)}), {', '.join(costs)}",
        *(f"int8    {words.int8_file(file, record)}" for file in record.int8),
        f"test    images read {times(record.readings)} in this study",
        f"files   {result.folder}: {', '.join(files)}, {MISTAKES}/, {RUNS}/",
        f"report  {report}",
        f"next    python -m nas.predict {shlex.quote(str(result.folder))} IMAGE...",
    ]
    return "\n".join(lines)


def _table(record: "FinalRecord") -> list[str]:
    """Two lines or more for each design, no wider than a terminal."""
    seeds = f"{'means of ' if len(record.seeds) > 1 else ''}{plural(len(record.seeds), 'seed')}"
    lines = [f"accuracies, {seeds}, with 95% intervals"]
    for design in (*record.finalists, *record.references):
        chosen = ", chosen" if design is record.chosen else ""
        what = f"{design.parameters:,} parameters, {design.architecture.brief}"
        lines += textwrap.wrap(
            f"{design.name}{chosen}: {what}",
            COLUMNS,
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
        found = [f"validation {_measured(design, design.validation)}"]
        found.append(f"test {_measured(design, design.test)}")
        lines.append("  " + ", ".join(found))
    return lines


def _measured(design: "FinalDesign", measured: "Measured | None") -> str:
    from nas.final import words

    if measured is None:
        return "failed" if design.failed else "-"
    return f"{percent(measured.mean.value)} ({words.interval(measured.mean)})"
