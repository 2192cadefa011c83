"""Outcomes and trials as the commands show them."""

from collections.abc import Mapping, Sequence

from nas.study.records import TIME_UP, Outcome, TrialRecord, training_in_words
from nas.text import about, percent, plural, shortened

COLUMNS = 80  # of a terminal, and of a line in a file

OUTCOME_WORDS: Mapping[Outcome, str] = {
    Outcome.TRAINED: "full",
    Outcome.STOPPED_EARLY: "stopped",
    Outcome.OVER_BUDGET: "over budget",
    Outcome.DUPLICATE: "duplicate",
    Outcome.DIVERGED: "diverged",
    Outcome.OUT_OF_MEMORY: "no memory",
    Outcome.FAILED: "failed",
}
FULL_AND_STOPPED = "full = trained to the last epoch, stopped = stopped early"


def finished(outcomes: Mapping[Outcome, int], interrupted: int = 0) -> str:
    """How many runs are finished, and which: ``4 full, 4 stopped; also 2 over budget``.

    An interrupted trial has the outcome `failed`, but its design was queued again.
    """
    counted = {**outcomes, Outcome.FAILED: outcomes.get(Outcome.FAILED, 0) - interrupted}
    shown = {o: f"{counted[o]:,} {words}" for o, words in OUTCOME_WORDS.items() if counted.get(o)}
    runs = [words for outcome, words in shown.items() if outcome.counts]
    others = [words for outcome, words in shown.items() if not outcome.counts]
    if interrupted:
        others.append(f"{interrupted:,} interrupted and queued again")
    return "; also ".join(filter(None, [", ".join(runs) or "none", ", ".join(others)]))


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows of a table as lines, the first `left` columns flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = "<" * left + ">" * (len(widths) - left)
    lines = (
        "  ".join(f"{c:{side}{w}}" for c, side, w in zip(row, sides, widths, strict=True))
        for row in rows
    )
    return [line.rstrip() for line in lines]


def of_asked(done: int, asked: int) -> str:
    """``8 of 50``; where a study has more than is asked for, ``60, 50 asked for``."""
    return f"{done} of {asked}" if done <= asked else f"{done}, {asked} asked for"


def designs_finished(done: int, asked: int) -> str:
    """``8 of 50 designs finished``, or ``60 designs finished, 50 asked for``."""
    if done <= asked:
        return f"{done} of {plural(asked, 'design')} finished"
    return f"{plural(done, 'design')} finished, {asked} asked for"


def trial_line(
    trial: TrialRecord,
    *,
    better: bool = False,
    needed: float | None = None,
    guessed: bool = False,
    width: int = COLUMNS,
) -> str:
    """A trial that has ended, in one line: what came of it, why, its size and its design.

    Args:
        trial: with an outcome.
        better: it is the best so far.
        needed: the accuracy by which it was stopped, if that is known.
        guessed: it is not shown to be better than guessing.
        width: most characters; what is too long loses its end.
    """
    assert trial.outcome is not None
    epoch = f"ep {trial.curve[-1][0]}" if trial.curve else ""
    accuracy = percent(trial.curve[-1][1]) if trial.curve else ""
    why = ""
    if better:
        why = "best so far"
    elif trial.reason == TIME_UP:
        why = "time is up"
    elif needed is not None:
        why = f"needed {percent(needed)}"
    elif guessed:
        why = "at chance"
    begin = f"{trial.number:>4}  {OUTCOME_WORDS[trial.outcome]:<9} {accuracy:>7}  {epoch:<5} "
    if trial.reason and trial.reason != TIME_UP:
        return shortened(f"{begin} {trial.reason}", width)
    design = f"at chance, {described(trial)}" if guessed else described(trial)
    if trial.training:
        design += f", {training_in_words(trial.training)}"
    return shortened(f"{begin}{why:<13}  {about(trial.parameters):>6}  {design}", width)


def described(trial: TrialRecord) -> str:
    """The design of a trial as short as it can be said, with the name of a preset."""
    if trial.architecture is None:
        return "-"
    return trial.architecture.brief + (f" ({trial.preset})" if trial.preset else "")
