"""The head of the report: what was asked and found, how sure that is, what to do next, the cost."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nas.final import words as final_words
from nas.final.records import FinalRecord, MeasuredLatency
from nas.report import overview
from nas.report.document import Section
from nas.report.health import Level, health, more_trials, problems
from nas.report.html import html
from nas.report.mistakes import missing_model
from nas.report.tested import final_cost, readings, summary
from nas.report.trials import ties
from nas.report.words import design_in_words, interval_of
from nas.study.records import Outcome, StudyRecord
from nas.text import duration, milliseconds, percent, percent_range, plural, share, whole


@dataclass(frozen=True, slots=True)
class Tile:
    """One number."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next, as it is to be typed."""

    why: str
    command: str


def verdict(
    study: StudyRecord, final: FinalRecord | None, folder: Path | None, files: dict[str, str]
) -> Section:
    """The section.

    Args:
        study: what is reported.
        final: the last final training.
        folder: of the exported model; None where it is not known.
        files: of `document`, each by what its button says.
    """
    best, findings = study.incumbent, health(study, final)
    passed = [finding for finding in findings if finding.level is Level.PASS]
    cost = [" ".join(overview.cost(study)) or "Nothing so far."]
    if final is None:
        design = best and best.architecture
        found = [overview.found(study), overview.expected(study)]
        sure = [overview.caution(study, final), ties(study)]
        sure += [readings(study)] if study.readings else []
    else:
        design = final.chosen.architecture
        found = [summary(final), f"Its design: {design_in_words(design)}."]
        found += [f"In int8 {final_words.int8_file(file, final)}." for file in final.int8]
        if best is not None and best.number != final.chosen.trial:
            first = f"In the search trial {best.number} was first, with a validation accuracy of "
            first += percent(best.val_accuracy)
            if best.number not in {design.trial for design in final.finalists}:
                first += "; it was not trained in full"
            found.append(f"{first}.")
        sure = [final_words.choice(final), readings(study)]
        if short := final_words.too_short(final.recipe_name, final.recipe.get("epochs")):
            sure.append(f"{short[0].upper()}{short[1:]}.")
        cost.append(f"The final training took {final_cost(final)}, summed over its runs.")
    content = html(
        "verdict.html",
        tiles=list(tiles(study, final)),
        asked=overview.asked(study),
        found=list(filter(None, found)),
        design=design,
        name=final.chosen.name if final else best and f"trial {best.number}",
        sure=list(filter(None, sure)),
        next=next_step(study, final, folder),
        cost=cost,
        problems=problems(findings),
        passed=passed,
        passes=f"{plural(len(passed), 'check')} passed",
        model=None if final is None or missing_model(final, folder) else folder,
        files=files,
    )
    return Section("Verdict", content)


def tiles(study: StudyRecord, final: FinalRecord | None) -> Iterator[Tile]:
    """The numbers of the exported design, or else of the incumbent, and what the search took."""
    best = study.incumbent
    if final is not None:
        name = final.chosen.name
        exported, validation = final.exported.accuracy, final.chosen.validation
        detail = f"exported model, {name}; 95% interval {final_words.interval(exported)}"
        yield Tile("Test accuracy", percent(exported.value), detail)
        if validation is not None:
            mean = "mean of " if len(final.seeds) > 1 else ""
            detail = f"{name}, {mean}{final_words.seeds(final)}; 95% interval "
            detail += final_words.interval(validation.mean)
            yield Tile("Validation accuracy", percent(validation.mean.value), detail)
    elif best is not None and best.val_accuracy is not None:
        detail = f"trial {best.number}, the best of {whole(len(study.ranking))}, so optimistic"
        if interval := interval_of(study, best):
            detail += f"; 95% interval {percent_range(interval.low, interval.high)}"
        yield Tile("Validation accuracy", percent(best.val_accuracy), detail)
    deployed = best if final is None else final.chosen
    for cost, value in overview.costs_of(deployed, study) if deployed else ():
        most = study.settings.limits.get(cost.name)
        detail = f"{share(value / most)} of {cost.rounded(most)}" if most else cost.per
        yield Tile(cost.heading, cost.rounded(value), detail)
    number = final.chosen.trial if final else best.number if best else None
    if latency := MeasuredLatency.of(study, number):
        detail = f"{share(latency.ms / latency.limit.max_ms)} of {latency.limit}"
        yield Tile("Latency", milliseconds(latency.ms), detail)
    if study.trained:
        to_the_end = f"{whole(study.outcomes[Outcome.TRAINED])} to the end"
        detail = ", ".join([to_the_end, *overview.stopping(study).phrases])
        yield Tile("Designs trained", whole(study.trained), detail)
    if (seconds := overview.training_seconds(study)) is not None:
        detail = f"summed over all runs: {overview.device_minutes(study)}"
        yield Tile("Search: training time", duration(seconds), detail)


def next_step(study: StudyRecord, final: FinalRecord | None, folder: Path | None) -> Step:
    """The one command that goes on.

    A URL of a database is not repeated, since it may hold a password.
    """
    which = f"--study {shlex.quote(study.name)}"
    if re.search(r" --storage[ =]", str(study.command)):
        which += " --storage URL"
    if folder is not None and (studies := folder.parent.parent) != Path("studies"):
        which += f" --studies-dir {shlex.quote(str(studies))}"
    if not study.ranking:
        why = "Continue the search: no design was trained to the end yet."
        return Step(why, f"nas search {which}")
    if final is not None and missing_model(final, folder) is None:
        command = f"nas predict {shlex.quote(str(folder))} IMAGE"
        return Step("Classify images of your own with the exported model.", command)
    if final is not None:
        return Step("Look at the trials one by one.", f"nas dashboard {which}")
    if more := more_trials(study):
        why = "Continue the search: the best design came late, so more trials may help."
        return Step(why, f"nas search {which} --trials +{more}")
    why = (
        "Train the best designs in full, with several seeds, choose among them, and measure the "
        "chosen one on the test images, once."
    )
    return Step(why, f"nas final {which}")
