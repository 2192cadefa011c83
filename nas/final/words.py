"""A final training in words: sentences that its card, its report and the terminal share."""

from nas.counting import COSTS
from nas.final.records import (
    FinalDesign,
    FinalRecord,
    Gain,
    Int8Accuracy,
    Int8Record,
    MeasuredLatency,
)
from nas.final.request import ALL
from nas.statistics import Estimate
from nas.study.latencies import machine_in_words
from nas.study.records import limits_in_words
from nas.text import milliseconds, percent, percent_range, plural, points, share

_SHORT = 50  # epochs below which strong augmentation may cost more than it gives


def interval(estimate: Estimate) -> str:
    """An estimate's interval in percent: 93.63% to 94.56%."""
    return percent_range(estimate.low, estimate.high)


def seeds(record: FinalRecord) -> str:
    """How many runs each design had."""
    return plural(len(record.seeds), "seed")


def epochs(record: FinalRecord) -> str:
    """How long each run was."""
    number = record.recipe.get("epochs")
    return plural(number, "epoch") if isinstance(number, int) else "? epochs"


def too_short(recipe: str, epochs: object) -> str | None:
    """Why runs of so few epochs may be worse than with another recipe; None where they are not.

    `epochs` is None where they are the recipe's own.
    """
    if recipe != "long" or not isinstance(epochs, int) or epochs >= _SHORT:
        return None
    return f"the recipe long is designed for 200 epochs, not {epochs}; --recipe fast may be better"


def choice(record: FinalRecord) -> str:
    """How sure the choice among designs is; what a teacher brought says `distilled`."""
    if not any(design.validation for design in record.others):
        return "No other design of the search was trained in full."
    if len(record.seeds) == 1:
        return "With one seed each, nothing shows which design is better."
    as_good = [design.name for design in record.others if design.may_be_best]
    if not as_good:
        return "The other designs trained in full are worse with 95% confidence."
    chosen = record.chosen.name
    return f"Whether {chosen} is better than {' or '.join(as_good)} is open at 95% confidence."


def distilled(design: FinalDesign) -> str:
    """From what a design learned, and what that brought; empty without a teacher."""
    if design.distilled is None:
        return ""
    found, gain = design.distilled, design.distilled.gain
    text = (
        f"{design.name} learned from {found.teacher} (weight {found.weight:g}, temperature "
        f"{found.temperature:g})"
    )
    if gain is not None:
        text += (
            f": {points(gain.value)} points on the validation images over the same training "
            f"without a teacher (95% interval {points(gain.low)} to {points(gain.high)})"
        )
    return text


def gain(gain: Gain) -> str:
    """What the design and what the recipe adds to a reference."""
    estimate = gain.architecture
    text = (
        f"{points(estimate.value)} points by its design over {gain.reference}, trained in the same "
        f"way (95% interval {points(estimate.low)} to {points(estimate.high)})"
    )
    if gain.recipe is not None:
        text += f"; the recipe adds {points(gain.recipe)} to its published accuracy"
    return text


def size_note(design: FinalDesign, record: FinalRecord) -> str:
    """Which limits a reference is over, if any."""
    over = [COSTS[n].limit for n, most in record.limits.items() if getattr(design, n) > most]
    return f" (over the {' and '.join(over)})" if over else ""


def within(record: FinalRecord) -> str:
    """What the search was for: at most 5,000,000 parameters and a latency of 5 ms (...)."""
    return limits_in_words(record.limits, record.latency.limit if record.latency else None)


def latency(found: MeasuredLatency) -> str:
    """As in 4.81 ms of latency (96% of 5 ms, float, 1 thread)."""
    limit = found.limit
    part = f"{share(found.ms / limit.max_ms)} of {milliseconds(limit.max_ms)}"
    return (
        f"{milliseconds(found.ms)} of latency ({part}, {limit.of}, "
        f"{plural(limit.threads, 'thread')})"
    )


def measured_on(found: MeasuredLatency) -> str:
    """As in ONNX Runtime 1.18.0 on AMD EPYC 7B13, 1 thread; of several machines each."""
    return " or ".join(map(machine_in_words, found.machines))


def int8_file(file: Int8Record, record: FinalRecord) -> str:
    """What an int8 file reaches: on the test images, if they were read for it."""
    measured, images = file.test, plural(record.test_images, "test image")
    if measured is None:
        measured, images = file.validation, validation_images(record.validation_images, record.on)
    unread = "; not measured on test images" if file.test is None else ""
    known = file.test is None and record.on == ALL  # such an accuracy says nothing of others
    range = "" if known else f" (95% interval {interval(measured.accuracy)})"
    return (
        f"{file.file} ({plural(file.bytes, 'byte')}): {percent(measured.accuracy.value)} of "
        f"{images}{range}, {lost(measured)}{unread}"
    )


def validation_images(number: int, on: str) -> str:
    """How many there are, and whether a network that was trained on a part knows them."""
    return plural(number, "validation image") + (", which it was trained on" if on == ALL else "")


def int8_refused(file: str, measured: Int8Accuracy, images: str, most: float) -> str:
    """Why an int8 file is not written."""
    in_float = measured.accuracy.value + measured.lost.value
    return (
        f"{file}: expected int8 to lose at most {most:.2f} points (--max-int8-loss) on "
        f"{images}, got {percent(measured.accuracy.value)} instead of "
        f"{percent(in_float)} in float32, {lost(measured)}; the file is "
        "not written, all others are: a larger --max-int8-loss would allow it"
    )


def int8_too_large(file: str, bytes: int, most: int) -> str:
    """Why an int8 file is not written."""
    return (
        f"{file}: expected at most {most:,} bytes of flash, the limit of the study, got {bytes:,}; "
        "the file is not written, all others are: a search with a slightly lower --max-flash finds "
        "a design that fits"
    )


def lost(measured: Int8Accuracy) -> str:
    """What int8 costs: 0.28 points lost (95% interval -0.55 to 1.10)."""
    lost = measured.lost
    value, low, high = (f"{100 * share:z.2f}" for share in (lost.value, lost.low, lost.high))
    return f"{value} points lost (95% interval {low} to {high})"
