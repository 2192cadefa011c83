"""What a search shows on terminals of several widths, in files, and in its log."""

import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nas.commands import main
from nas.commands.loading import log_file
from nas.commands.progress import SearchProgress
from nas.commands.words import trial_line
from nas.counting import Count
from nas.errors import RequestError
from nas.runtime import signals
from nas.search.events import (
    BatchesDone,
    DatabaseGone,
    EndedElsewhere,
    EpochEnded,
    Event,
    Loading,
    Opened,
    TrialContinued,
    TrialEnded,
    TrialStarted,
    Waiting,
)
from nas.search.evidence import Threshold
from nas.search.request import SearchRequest
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import DIED, TIME_UP, Outcome, StudyRecord, TrialRecord
from nas.training.loop import EpochResult
from tests.kits import records
from tests.kits.commands import error_line, error_of
from tests.kits.places import STUDIES
from tests.kits.threads import asked_meanwhile
from tests.kits.waiting import wait_until

EXAMPLES = ("digits-example", "cifar10-h200")
WIDTHS = (80, 140)


@dataclass
class Clock:
    """A clock that goes when it is told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def example(name: str) -> StudyRecord:
    return read_study(StudyLocation.at(name, studies_dir=STUDIES))


def opened(study: StudyRecord, *earlier: TrialRecord, **settings: Any) -> Opened:
    """A search of the study when it had these trials."""
    location = StudyLocation.at(study.name, studies_dir=STUDIES)
    plain = Opened(
        replace(study, trials=earlier),
        location,
        50,
        10_000,
        "cpu (1 thread)",
        "float32",
        10.0,
        workers=2,
        pruner="rungs",
    )
    return replace(plain, **settings)


def epoch(number: int, accuracy: float, seconds: float = 1.0) -> EpochResult:
    return EpochResult(number, 1.0, 1.0, accuracy, seconds, 1_000.0)


def started(trial: TrialRecord, needed: Threshold | None = None) -> TrialStarted:
    assert trial.architecture
    known = (trial.parameters or 0, trial.mult_adds or 0)
    cost = Count(*known, activations=0, peak_ram=0, arena=0, flash=0)
    return TrialStarted(trial.number, trial.architecture, cost, needed)


def events_of(trial: TrialRecord) -> Iterator[Event]:
    """What happens to a trial that has ended; a stopped one had a tenth of its points too few."""
    number, last = trial.number, trial.curve[-1][0]
    needed = Threshold(last, min(1.0, trial.curve[-1][1] * 1.1))
    yield started(trial, needed)
    for done, accuracy in trial.curve:
        yield BatchesDone(number, 3, 10)
        yield EpochEnded(number, epoch(done, accuracy), needed if done < last else None)
    yield TrialEnded(trial)


class Screen:
    """A progress, and what it has printed."""

    def __init__(self, width: int | None = None, **settings: Any) -> None:
        """With a width a terminal."""
        self.file, self.clock = io.StringIO(), Clock()
        console = Console(
            file=self.file, width=width or 80, force_terminal=bool(width), color_system=None
        )
        request = SearchRequest(max_parameters=5_000_000)
        settings = {"busy": lambda own: False, **settings}
        self.progress = SearchProgress(console, request, clock=self.clock, **settings)

    def shows(self, *events: Event) -> None:
        for event in events:
            self.progress(event)

    def draws(self) -> list[str]:
        """The panel now."""
        self.file.truncate(self.file.seek(0))
        self.progress.console.print(self.progress.panel())
        return self.lines

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_a_signal_is_answered_before_it_is_acted_on() -> None:
    screen = Screen()

    def waiting() -> None:
        with signals.listening(), screen.progress:
            signals.stop()
            wait_until(lambda: "stopping after this batch" in screen.file.getvalue())

    with pytest.raises(KeyboardInterrupt):
        waiting()
    assert len(screen.lines) == 1  # however long it takes


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    study, screen = example(name), Screen(width)
    screen.shows(Loading(), opened(study))
    for trial in study.trials:
        for event in events_of(trial):
            screen.shows(event)
            if isinstance(event, BatchesDone):
                panel = screen.draws()
                assert max(map(len, panel)) <= width
                assert len(panel) <= 11
        (line,) = [line for line in screen.lines if re.match(rf" +{trial.number}  ", line)][-1:]
        assert len(line) <= 80


def test_the_panel_says_where_the_search_stands() -> None:
    study = example("cifar10-h200")
    screen = Screen(140)
    screen.shows(opened(study))
    for trial in study.trials[:14]:
        screen.shows(*events_of(trial))
        screen.clock.now += trial.seconds or 0
    first, second = study.trials[14:16]
    screen.shows(started(first, Threshold(3, 0.641)), started(second))
    screen.shows(EpochEnded(first.number, epoch(2, 0.567), Threshold(3, 0.641)))
    screen.shows(BatchesDone(first.number, 44, 88))
    text = "\n".join(screen.draws())
    assert "14 of 50: 4 full, 10 stopped" in text
    assert re.search(r"time +1 min 42 s, \d+ s to \d min left \(from 14 trials", text)
    assert "epoch 3 of 10  56.70%  needs 64.10% at 3" in text
    assert "epoch 1 of 10" in text
    ranked = sorted(study.trials[:14], key=lambda t: -(t.val_accuracy or 0) * (len(t.curve) == 10))
    for place, trial in zip(("best", "2nd", "3rd"), ranked, strict=False):
        assert re.search(rf"{place} +{trial.val_accuracy:.2%} .*trial {trial.number}\b", text)
    assert "last improvement 5 trials ago" in text


def test_at_most_four_bars_of_workers_are_shown() -> None:
    study, screen = example("digits-example"), Screen(80)
    screen.shows(opened(study), *(started(trial) for trial in study.trials[:6]))
    panel = screen.draws()
    assert sum("epoch 1 of" in line for line in panel) == 4
    assert any("and 2 more" in line for line in panel)


def plain_lines(**settings: Any) -> Screen:
    """A search whose lines go to a file."""
    study, screen = example("digits-example"), Screen(**settings)
    screen.shows(Loading(), opened(study))
    for trial in study.trials:
        screen.shows(*events_of(trial))
    screen.progress.conclude()
    return screen


def test_a_file_gets_plain_lines() -> None:
    screen = plain_lines()
    text = screen.file.getvalue()
    assert "\x1b" not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    assert "full = trained to the last epoch, stopped = stopped early" in screen.lines
    assert re.fullmatch(r"finished 50 of 50: 10 full, 40 stopped in 0.0 s", screen.lines[-1])
    trials = [line for line in screen.lines if re.match(r" +\d+  ", line)]
    assert [int(line.split()[0]) for line in trials] == list(range(50))
    stopped = [line for line in trials if " stopped " in line]
    assert all(re.search(r" ep \d+ +needed \d+\.\d\d%  ", line) for line in stopped)


def test_quiet_leaves_improvements_and_the_end() -> None:
    screen = plain_lines(quiet=True)
    *improvements, end = screen.lines
    assert improvements
    assert all("best so far" in line for line in improvements)
    assert end.startswith("finished 50 of 50")
    on_a_terminal = Screen(80, quiet=True)
    assert not on_a_terminal.progress.shows_panel
    on_a_terminal.shows(DatabaseGone("no answer", 120.0))
    assert "the database does not answer" in on_a_terminal.file.getvalue()


@pytest.mark.parametrize("settings", [{}, {"quiet": True}, {"width": 80}], ids=str)
def test_the_log_has_every_line_with_its_time(tmp_path: Path, settings: dict[str, Any]) -> None:
    with log_file(tmp_path / "search.log") as log:
        plain_lines(log=log, **settings)
    logged = (tmp_path / "search.log").read_text(encoding="utf-8").splitlines()
    stamped = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (.*)")
    matches = [stamped.fullmatch(line) for line in logged]
    assert [match and match[1] for match in matches] == plain_lines().lines


def test_a_log_that_can_no_longer_be_written_ends_nothing() -> None:
    class Full(io.StringIO):
        def writelines(self, lines: object) -> None:
            raise OSError(28, "No space left on device")

    screen = plain_lines(log=Full())
    assert sum("No space left" in line for line in screen.lines) == 1
    assert screen.lines[-1].startswith("finished 50 of 50")


def test_a_log_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for log in (tmp_path / "missing" / "search.log", tmp_path):
        search = ["search", "--budget", "5M", "--dataset", "digits", "--log-file", str(log)]
        said = error_of(capsys, main(search))
        assert f"--log-file: expected a file that can be written, got {log}: " in said
        final = ["final", "--study", "digits-5M", "--log-file", str(log)]
        assert f"got {log}" in error_of(capsys, main(final))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("width", [None, 80])
def test_a_minute_without_a_line_brings_one(width: int | None) -> None:
    log = io.StringIO()
    screen = Screen(width, log=log)
    progress, clock = screen.progress, screen.clock
    screen.shows(Loading())
    assert log.getvalue().endswith("  reading images\n")
    clock.now = 59.0
    progress.tick()
    assert log.getvalue().count("\n") == 1
    clock.now = 60.0
    progress.tick()
    assert log.getvalue().endswith("  1 min: reading images\n")
    progress.tick()
    assert log.getvalue().count("\n") == 2
    study = example("digits-example")
    screen.shows(opened(study))
    for trial in study.trials[:9]:
        screen.shows(started(trial), TrialEnded(trial))
        clock.now += 5.0
    clock.now += 60.0
    progress.tick()
    last = log.getvalue().splitlines()[-1]
    assert re.search(r"  2 min 45 s: 9 of 50, .+ left \(from 9 trials", last)
    shown = [line for line in screen.lines if "9 of 50" in line]
    assert len(shown) == (width is None)


def test_why_a_trial_ended_is_on_its_line() -> None:
    full = records.trial(12, accuracy=0.678)
    line = trial_line(full)
    assert re.fullmatch(r"  12  full       67.80%  ep 6 +602 k  B2,1,1 C28,56,112 .*", line)
    assert "best so far" in trial_line(full, better=True)
    assert "at chance" in trial_line(full, guessed=True)
    stopped = records.trial(3, Outcome.STOPPED_EARLY, 0.3, epochs=3)
    assert "   3  stopped    30.00%  ep 3  needed 36.00%" in trial_line(stopped, needed=0.36)
    cut = replace(stopped, reason=TIME_UP)
    assert "ep 3  time is up" in trial_line(cut, needed=0.36)
    reason = f"loss not finite in epoch 3: {'nan ' * 10}"
    diverged = records.trial(4, Outcome.DIVERGED, reason=reason)
    line = trial_line(diverged)
    assert "diverged" in line
    assert "loss not finite in epoch 3" in line
    assert (len(line), line[-3:]) == (80, "...")
    tuned = replace(full, training={"optimizer": "adam", "lr": 0.002, "batch_size": 512})
    assert len(trial_line(tuned)) <= 80
    assert "adam 0.002, batch 512" in trial_line(tuned, width=140)


def test_what_other_processes_do_is_told() -> None:
    screen = Screen()
    screen.shows(opened(example("digits-example")), Waiting(2), TrialContinued(1, 4))
    screen.shows(EndedElsewhere(records.trial(3, Outcome.FAILED, reason=DIED)))
    assert screen.lines[-3:] == [
        "waiting for 2 trials of other processes",
        "trial 1: resumes after epoch 4",
        "trial 3: its worker is gone, and its design is queued again",
    ]
    assert screen.progress.summary() == "0 of 50: none; also 1 interrupted and queued again"


def test_a_resumed_search_tells_what_is_new() -> None:
    study, screen = example("digits-example"), Screen()
    screen.shows(opened(study, *study.trials[:48]))
    for trial in study.trials[48:]:
        screen.shows(*events_of(trial))
    screen.progress.conclude()
    assert screen.lines[-1] == "finished 50 of 50: 10 full, 40 stopped; 2 now in 0.0 s"


def test_more_than_is_asked_for_is_said_so() -> None:
    study, screen = example("digits-example"), Screen()
    screen.shows(opened(study, *study.trials, trials=40))
    assert "50 designs finished, 40 asked for" in screen.file.getvalue()
    assert screen.progress.progress_text() == "50, 40 asked for"


@pytest.mark.parametrize("to_file", [True, False])
def test_a_summary_stays_unless_the_results_come_next(
    to_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Console(force_terminal=not to_file).file)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: not to_file, raising=False)
    screen = Screen(80)
    screen.shows(opened(example("digits-example")))
    screen.progress.conclude()
    assert ("finished 0 of 50" in screen.file.getvalue()) is to_file


def test_the_last_improvement_is_as_long_ago_as_before_a_resume() -> None:
    best = records.trial(0, accuracy=0.9)
    others = (
        records.trial(1, Outcome.DUPLICATE),
        replace(records.trial(2, accuracy=0.1), outcome=Outcome.DIVERGED),
        records.trial(3, accuracy=0.8),
        replace(records.trial(4, accuracy=0.1), outcome=Outcome.OVER_BUDGET),
        records.trial(5, Outcome.STOPPED_EARLY, 0.2),
    )
    live, resumed = Screen(80), Screen(80)
    study = records.study()
    live.shows(opened(study), TrialEnded(best), *map(TrialEnded, others))
    resumed.shows(opened(study, best, *others))
    for screen in (live, resumed):
        assert "last improvement 2 trials ago" in "\n".join(screen.draws())


@pytest.mark.parametrize("device", ["cpu (2 threads)", "NVIDIA H200"])
def test_a_long_search_is_told_what_can_still_be_changed(device: str) -> None:
    screen = Screen()
    screen.shows(opened(example("digits-example"), trial_seconds=600.0, device=device))
    (note,) = [line for line in screen.lines if line.startswith("NOTE: shorter")]
    now, _, otherwise = note.partition("; or as a new --study with ")
    assert "--time 1h" in now
    assert ("a GPU" in now) == device.startswith("cpu")
    for setting in ("--subset", "--epochs", "--max-mult-adds", "--space"):
        assert setting not in now
        assert setting in otherwise


def test_timeout_is_in_the_time_left() -> None:
    screen = Screen()
    screen.shows(opened(example("digits-example"), seconds_left=60.0, ended_by="--timeout"))
    assert screen.lines[-1] == "65 to 70 s left (--timeout ends it)"


def test_other_programs_are_named_in_lines_of_status_only() -> None:
    screen = Screen(busy=lambda own: own == 6)
    screen.shows(opened(example("digits-example"), threads=6))
    assert "busy" not in screen.file.getvalue()  # it may be what this one did before Ctrl-C
    assert "machine is busy" in screen.progress.status()


def test_a_design_at_chance_is_marked() -> None:
    screen = Screen()
    screen.shows(opened(records.study()))
    for number, accuracy in ((0, 0.101), (1, 0.5)):
        trial = records.trial(number, accuracy=accuracy)
        screen.shows(started(trial), TrialEnded(trial))
    guessing, learned = screen.lines[-2:]
    assert "best so far     197 k  at chance, B2,1,1" in guessing
    assert "chance" not in learned


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (RequestError("--device: expected a GPU"), ["error: --device: expected a GPU", "a note"]),
        (MemoryError(), ["error: MemoryError", "a note"]),
        (KeyboardInterrupt(), ["interrupted"]),
    ],
)
def test_the_log_says_why_a_command_ended(
    error: BaseException, logged: list[str], tmp_path: Path
) -> None:
    error.add_note("a note")
    with pytest.raises(type(error)), log_file(tmp_path / "x.log"):
        raise error
    lines = (tmp_path / "x.log").read_text(encoding="utf-8").splitlines()
    assert [line.partition("  ")[2] for line in lines] == logged


@pytest.mark.parametrize(
    "command",
    [
        ["search", "--budget", "5M", "--dataset", "folder", "--data-dir", "none"],
        ["search", "--study", "unknown"],
        ["search", "--budget", "5M", "--device", "gpu"],
        ["final", "--study", "unknown"],
    ],
    ids=" ".join,
)
def test_what_a_command_is_refused_for_is_in_its_log(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = error_line(capsys, main([*command, "--log-file", "x.log"]))
    assert Path("x.log").read_text(encoding="utf-8").endswith(f"  {said}\n")


def test_another_thread_may_draw_at_any_time() -> None:
    study, screen = example("digits-example"), Screen(80)
    screen.shows(opened(study, workers=4))
    outcomes = list(Outcome)

    def change(number: int) -> None:
        trial = replace(study.trials[number % 50], number=number)
        screen.shows(started(trial), EpochEnded(number, epoch(1, 0.1)))
        ended = number - number % 5
        outcome = outcomes[ended // 5 % len(outcomes)]
        screen.progress(EndedElsewhere(replace(trial, number=ended, outcome=outcome)))

    asked_meanwhile(screen.progress.panel, change)
