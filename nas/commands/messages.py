"""What is said as a search begins, and what a person is warned of."""

from typing import assert_never

from nas.commands.words import FULL_AND_STOPPED, designs_finished
from nas.counting import COSTS
from nas.devices import KEPT_BACK
from nas.search.events import (
    CaptureFailed,
    CheckpointFailed,
    DatabaseBack,
    DatabaseGone,
    Opened,
    TimeSized,
    Warned,
    WorkerFailed,
)
from nas.text import duration, plural


def size_lines(sized: TimeSized) -> list[str]:
    """What was chosen by the time and why, and the command that repeats it."""
    size = sized.size
    why = f"--time {sized.time}: "
    if sized.otherwise is not None:
        why += (
            f"without a GPU and a limit of time (--time none) it would take about "
            f"{duration(sized.otherwise)}; "
        )
    images = "all" if size.subset == 1 else f"{size.subset:.0%} of the"
    parts = [plural(size.epochs, "epoch"), f"{images} training images"]
    if size.max_mult_adds is not None:
        parts.append(f"at most {COSTS['mult_adds'].exactly(size.max_mult_adds)}")
    fit = f"so that {plural(sized.trials, 'design')} fit"
    if sized.trials < sized.asked:
        fit = f"the smallest setting; about {sized.trials} of {sized.asked} designs fit"
    each = f"about {duration(sized.trial_seconds)} for a design on this machine"
    return [
        f"{why}{', '.join(parts)}, {fit}, {each}",
        f"the same without measuring: {sized.command}",
    ]


def opening_lines(opening: Opened) -> list[str]:
    """What is searched, where, and how designs are trained."""
    study, settings = opening.study, opening.study.settings
    epochs = settings.epochs
    lines = [
        f"{settings.dataset}: {settings.train_images:,} training, "
        f"{settings.validation_images:,} validation, "
        f"{plural(opening.test_images, 'test image')} (unread), {settings.input}",
        f"study {study.name} in {opening.location}: "
        f"{designs_finished(study.trained, opening.trials)}, {settings.within}",
        f"{plural(epochs, 'epoch')} each, in {opening.precision} on {opening.device}",
    ]
    if study.target:
        lines.insert(2, f"for {study.target}: {KEPT_BACK}")
    return [*lines, FULL_AND_STOPPED] if opening.pruner != "none" else lines


def warning_line(
    event: Warned | CheckpointFailed | CaptureFailed | DatabaseGone | DatabaseBack | WorkerFailed,
) -> str:
    """What is wrong, or is right again."""
    match event:
        case Warned(warning):
            return f"NOTE: {warning}"
        case CheckpointFailed(reason):
            return (
                f"warning: a checkpoint could not be written ({reason}): a trial that is "
                "interrupted would start over"
            )
        case CaptureFailed(reason):
            return f"steps are not captured as CUDA graphs ({reason}): thin designs train slower"
        case DatabaseGone(reason, patience):
            return f"the database does not answer ({reason}): trying again for {duration(patience)}"
        case DatabaseBack():
            return "the database answers again"
        case WorkerFailed(reason):
            return reason
        case _:
            assert_never(event)
