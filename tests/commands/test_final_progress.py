"""What a final training shows: how long it will take before it begins, its bars, and its lines."""

import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from nas.commands.final_progress import FinalProgress
from nas.final.events import Opened
from nas.final.expected import FinalPace, epoch_seconds
from nas.final.request import TRAIN
from nas.final.runs import Run, RunBatchesDone, RunEnded, RunEpochEnded, RunStarted
from nas.training.loop import EpochResult
from tests.kits.records import design, study, trial
from tests.kits.threads import asked_meanwhile

STUDY = study(trial(0, accuracy=0.8), trial(1, accuracy=0.9))  # 10 s an epoch, on a GPU
RUNS = [Run(f"trial {n}", design(16 + n), seed, TRAIN) for n in (1, 0) for seed in (0, 1, 2)]
SECONDS = {"trial 0": 2.0, "trial 1": 4.0}


def epoch(number: int, seconds: float = 1.0) -> EpochResult:
    return EpochResult(number, 1.0, 1.0, 0.8765, seconds, 1_000.0)


def opened(**settings: object) -> Opened:
    plain = {"left": RUNS, "workers": 2, "epoch_seconds": SECONDS}
    return Opened(STUDY, RUNS, 20, "cpu", "float32", **{**plain, **settings})  # type: ignore[arg-type]


def screen(
    width: int | None = None, busy: Callable[[int], bool] = lambda own: False
) -> tuple[FinalProgress, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, width=width or 80, force_terminal=bool(width), color_system=None)
    return FinalProgress(console, clock=lambda: 0.0, busy=busy), file


def test_how_long_it_will_take_is_said_before_it_begins() -> None:
    progress, file = screen()
    progress(opened())
    _, runs, time = file.getvalue().splitlines()
    assert runs == "6 runs x 20 epochs x 3.0 s as in the search"
    assert re.match(r"2 to 6 min left \(from the search", time)  # 3 x 20 x (2 + 4) s by 2 workers


@pytest.mark.parametrize(("asked", "said"), [(50, True), (2, False)])
def test_a_search_that_is_not_finished_is_named_before_its_test_images_are_read(
    asked: int, said: bool
) -> None:
    progress, file = screen()
    progress(replace(opened(), study=replace(STUDY, searches=({"trials": asked}, {}))))
    warned = "NOTE: the search has finished 2 of 50 designs" in file.getvalue().replace("\n", " ")
    assert warned is said


def test_nothing_is_said_of_a_time_that_nobody_knows() -> None:
    progress, file = screen()
    progress(opened(epoch_seconds={}))
    assert file.getvalue().splitlines()[1:] == ["6 runs x 20 epochs"]
    assert progress.status() == "0.0 s: 0 of 6 runs"


@pytest.mark.parametrize("width", [80, 140])
def test_bars_of_runs_and_batches(width: int) -> None:
    progress, file = screen(width)
    progress(opened())
    progress(RunStarted(RUNS[0], 0))
    progress(RunStarted(RUNS[1], 4))
    progress(RunEpochEnded(RUNS[0], epoch(1)))
    progress(RunBatchesDone(RUNS[0], 5, 10))
    progress(RunEnded(RUNS[2], 0.91, 30.0))
    file.truncate(file.seek(0))
    progress.console.print(progress.panel())
    panel = file.getvalue()
    assert max(map(len, panel.splitlines())) <= width
    assert "1 of 6, best 91.00%" in panel
    assert "epoch 2 of 20  87.65%  trial 1, seed 0" in panel
    assert "epoch 5 of 20  trial 1, seed 1" in panel
    assert "left (from 1 epoch" in panel


def test_a_run_is_a_line() -> None:
    progress, file = screen()
    progress(opened())
    progress(RunStarted(RUNS[0], 4))
    for run, accuracy in zip(RUNS, (0.9, 0.8, None), strict=False):
        progress(RunEnded(run, accuracy, 12.0))
    resumed, best, other, failed = file.getvalue().splitlines()[-4:]
    assert resumed == "trial 1, seed 0: resumes after epoch 4"
    assert re.fullmatch(r"trial 1, seed 0 +full +90\.00% +12 s +best so far", best)
    assert re.fullmatch(r"trial 1, seed 1 +full +80\.00% +12 s", other)
    assert re.fullmatch(r"trial 1, seed 2 +failed +12 s", failed)


def test_a_run_that_is_done_stays_done() -> None:
    progress, file = screen()
    progress(opened())
    progress(RunEnded(RUNS[0], 0.9, 12.0))
    progress(RunEpochEnded(RUNS[0], epoch(20)))  # heard late from the worker that trained it
    assert progress.summary() == "1 of 6 runs"
    assert file.getvalue().count("trial 1, seed 0") == 1


def test_only_what_others_compute_makes_the_machine_busy() -> None:
    for threads, note in ((8, False), (2, True)):
        progress, file = screen(busy=lambda own: own < 8)
        progress(opened(threads=threads, workers=1))
        assert "busy" not in file.getvalue()  # it may be what this one did before Ctrl-C
        assert ("machine is busy" in progress.status()) is note


# The time


def test_the_search_says_how_long_epochs_take_on_its_kind_of_device() -> None:
    images = STUDY.settings.train_images
    same = epoch_seconds(STUDY, RUNS, train_images=images, kind="cuda")
    assert same == {"trial 0": pytest.approx(10), "trial 1": pytest.approx(10)}
    more = epoch_seconds(STUDY, RUNS, train_images=2 * images, kind="cuda")
    assert 15 < more["trial 0"] < 20
    one, other = study(trial(0, accuracy=0.8)), Run("resnet20", design(160), 0, TRAIN)
    (seconds,) = epoch_seconds(one, [other], train_images=images, kind="cuda").values()
    assert seconds > 50  # a hundred times the mult-adds of the only one that was timed
    assert epoch_seconds(STUDY, RUNS, train_images=images, kind="cpu") == {}
    assert epoch_seconds(study(), RUNS, train_images=images, kind="cuda") == {}


def test_its_own_epochs_correct_what_the_search_says() -> None:
    pace = FinalPace(20, SECONDS, workers=1)
    pace.add(RUNS)
    before = pace.left()
    assert before
    assert before.middle == pytest.approx(3 * 20 * (2 + 4))
    pace.begin(RUNS[0], 0)
    for number in range(1, 11):
        pace.epoch(RUNS[0], number, seconds=8.0)  # twice as long
    after = pace.left()
    assert after
    assert after.middle == pytest.approx(2 * (before.middle - 10 * 4))
    assert after.high / after.low < before.high / before.low
    for run in RUNS:
        pace.end(run)
    assert pace.left() is None


def test_a_run_that_resumes_has_less_to_do() -> None:
    pace = FinalPace(20, SECONDS, workers=1)
    pace.add(RUNS[:1])
    pace.begin(RUNS[0], 15)
    said = pace.left()
    assert said
    assert said.middle == pytest.approx(5 * 4)


def test_a_run_whose_last_epoch_is_done_has_not_ended() -> None:
    pace = FinalPace(20, SECONDS, workers=2)
    pace.add(RUNS[:1])
    before = pace.left()
    assert before
    assert before.middle == pytest.approx(20 * 4)  # whatever the other worker does
    pace.epoch(RUNS[0], 20, 4.0)
    said = pace.left()
    assert said
    assert said.text() == "1 s left (from 1 epoch)"


def test_another_thread_may_ask_at_any_time() -> None:
    pace = FinalPace(20, SECONDS, workers=2)

    def change(seed: int) -> None:
        run = Run("trial 0", RUNS[0].architecture, seed, TRAIN)
        pace.add([run])
        pace.end(replace(run, seed=seed - 20))

    asked_meanwhile(pace.left, change)
