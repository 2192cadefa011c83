"""Times, outcomes and foreign text as the commands show them."""

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


def duration(seconds: float) -> str:
    """Rough and short: 42 s, 3 min, 1 h 20 min, 3 days; 0 s where a clock was set back."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours / 24:.0f} days"


def outcome_counts(outcomes: Mapping[Outcome, int], interrupted: int = 0) -> str:
    """``31 trained to the end, 19 stopped early, 70 over budget``.

    An interrupted trial has the outcome `failed`, but its design was queued again.
    """
    counted = {**outcomes, Outcome.FAILED: outcomes.get(Outcome.FAILED, 0) - interrupted}
    counts = [f"{counted[o]:,} {words}" for o, words in OUTCOME_WORDS.items() if counted.get(o)]
    if interrupted:
        counts.append(f"{interrupted:,} interrupted and queued again")
    return ", ".join(counts) or "no trials"
