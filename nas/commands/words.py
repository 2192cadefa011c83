"""Outcomes and foreign text as the commands show them."""

from collections.abc import Mapping

from nas.study.records import Outcome

OUTCOME_WORDS: Mapping[Outcome, str] = {
    Outcome.TRAINED: "trained to the end",
    Outcome.STOPPED_EARLY: "stopped early",
    Outcome.OVER_BUDGET: "over budget",
    Outcome.DUPLICATE: "duplicate",
    Outcome.DIVERGED: "diverged",
    Outcome.OUT_OF_MEMORY: "out of memory",
    Outcome.FAILED: "failed",
}


def outcome_counts(outcomes: Mapping[Outcome, int], interrupted: int = 0) -> str:
    """``31 trained to the end, 19 stopped early, 70 over budget``.

    An interrupted trial has the outcome `failed`, but its design was queued again.
    """
    counted = {**outcomes, Outcome.FAILED: outcomes.get(Outcome.FAILED, 0) - interrupted}
    counts = [f"{counted[o]:,} {words}" for o, words in OUTCOME_WORDS.items() if counted.get(o)]
    if interrupted:
        counts.append(f"{interrupted:,} interrupted and queued again")
    return ", ".join(counts) or "no trials"
