"""`nas studies`: what is in the folder of studies."""

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.commands import arguments
from nas.commands.words import aligned
from nas.counting import shown_costs
from nas.runtime import signals
from nas.search.request import SearchRequest
from nas.text import in_one_line, milliseconds, percent, printable

if TYPE_CHECKING:
    from nas.study.listing import ListedStudy, OtherFile

SUMMARY = "list the studies of a folder"

_STATES = {True: "finished", False: "unfinished", None: "-"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas studies`."""
    arguments.add_options(parser, SearchRequest, "studies_dir")
    arguments.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Prints a row per study; files that are none are named on stderr."""
    from nas.study.listing import ListedStudy, list_studies

    studies: list[ListedStudy] = []
    others: list[OtherFile] = []
    for found in list_studies(options.studies_dir):
        signals.check()
        if isinstance(found, ListedStudy):
            studies.append(found)
        else:
            others.append(found)
            print("NOTE:", in_one_line(f"{found.path}: {found.reason}"), file=sys.stderr)
    if options.json:
        print(json.dumps(_document(options.studies_dir, studies, others), indent=2))
    elif studies:
        print(_table(studies))
    elif not others:
        where = shlex.quote(str(options.studies_dir))
        print(printable(f"no studies in {where}; nas search starts one"))
    return 0


def _document(
    folder: Path, studies: "Sequence[ListedStudy]", others: "Sequence[OtherFile]"
) -> dict[str, object]:
    def entry(study: "ListedStudy") -> dict[str, object]:
        values = dataclasses.asdict(study)
        limits = values.pop("limits")
        return {
            **values,
            **limits,
            "path": str(study.path),
            "changed": study.changed.isoformat(timespec="seconds"),
            "finished": study.finished,
        }

    return {
        "studies_dir": str(folder),
        "studies": [entry(study) for study in studies],
        "others": [{"path": str(other.path), "reason": other.reason} for other in others],
    }


def _table(studies: "Sequence[ListedStudy]") -> str:
    costs = shown_costs({name for study in studies for name in study.limits})
    limits = [cost.limit.removeprefix("limit of ") for cost in costs]
    timed = any(study.latency for study in studies)
    limits += ["latency"] if timed else []
    rows = [("study", "dataset", *limits, "time", "designs", "best", "state", "changed")]
    for study in studies:
        of = "" if study.asked is None else f" of {study.asked}"
        rows.append(
            (
                printable(study.name),
                printable(study.dataset),
                *(c.short(study.limits[c.name]) if c.name in study.limits else "-" for c in costs),
                *([milliseconds(study.latency.max_ms) if study.latency else "-"] if timed else []),
                str(study.time or "-"),
                f"{study.trained}{of}",
                percent(study.best_val_accuracy),
                _STATES[study.finished],
                f"{study.changed:%Y-%m-%d %H:%M}",
            )
        )
    return "\n".join(aligned(rows, left=len(rows[0])))
