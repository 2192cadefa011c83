"""Searches with a limit of time: what they choose, where they end, and how they go on."""

import dataclasses
import math
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.architecture import ImageInput
from nas.counting import count
from nas.errors import RequestError
from nas.search.candidates import Candidates
from nas.search.continuing import continued
from nas.search.counts import Counts
from nas.search.deadline import in_time, searched_seconds, union_seconds
from nas.search.events import Event, Opened, TimeSized, Warned
from nas.search.plan import SearchEnding
from nas.search.request import SearchRequest
from nas.search.run import SearchResult, run_search
from nas.space import Limits, load_space
from nas.study.heartbeat import LAST_HEARD
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import opened
from nas.study.records import DIED, INTERRUPTED, NOBODY, TIME_UP, Outcome
from nas.study.store import open_store
from tests.kits.events import on
from tests.kits.studies import RequestOf, queue_design, running_trial, start_processes, trials_in
from tests.kits.waiting import PATIENCE, wait_until

NOON = datetime(2026, 11, 1, 12)
ENDLESS = {"epochs": 100_000, "pruner": "none", "subset": 0.05}  # no run comes to its end


def sized(request: SearchRequest) -> tuple[SearchResult, list[TimeSized]]:
    events: list[TimeSized] = []
    return run_search(request, on(TimeSized, events.append)), events


# How long a study has been searched

moments = st.integers(0, 100_000).map(lambda seconds: NOON + timedelta(seconds=seconds))
intervals = st.lists(st.tuples(moments, moments).map(lambda pair: (min(pair), max(pair))))


@given(intervals, st.randoms(use_true_random=False))
def test_what_runs_at_the_same_time_counts_once(
    ran: list[tuple[datetime, datetime]], rng: random.Random
) -> None:
    total = union_seconds(ran)
    seconds = {
        second
        for start, end in ran
        for second in range(int((start - NOON).total_seconds()), int((end - NOON).total_seconds()))
    }
    assert len(seconds) <= total <= len(seconds) + 10 * len(ran)  # gaps of at most ten seconds
    shuffled = ran.copy()
    rng.shuffle(shuffled)
    assert union_seconds([*shuffled, *ran[:1]]) == total


def test_a_search_that_went_on_later_does_not_count_the_time_between() -> None:
    hour = timedelta(hours=1)
    assert union_seconds([(NOON, NOON + hour), (NOON + 9 * hour, NOON + 10 * hour)]) == 7200


def test_workers_of_earlier_versions_that_died_count_for_nothing() -> None:
    week = {"datetime_start": NOON, "datetime_complete": NOON + timedelta(days=7)}
    for reason, seconds in ((DIED, 0), (f"{DIED} 3 times", 0), (NOBODY, 0), (INTERRUPTED, 604_800)):
        trial = create_trial(
            state=TrialState.FAIL,
            user_attrs={"outcome": Outcome.FAILED.value, "reason": reason, "worker": "gone:1"},
        )
        for name, moment in week.items():
            setattr(trial, name, moment)
        assert searched_seconds([trial], NOON + timedelta(days=30)) == seconds


def dead(location: StudyLocation, *, began: timedelta, heard: timedelta) -> None:
    """Moves the running trial of a study, and the last sign of life of its worker, to the past."""
    assert location.path is not None
    start = (datetime.now() - began).isoformat(sep=" ")
    with closing(sqlite3.connect(location.path)) as database, database:
        database.execute("UPDATE trials SET datetime_start = ? WHERE state = 'RUNNING'", (start,))
        database.execute(
            "UPDATE trial_heartbeats SET heartbeat = datetime('now', ?)",
            (f"-{heard.total_seconds():.0f} seconds",),
        )


@pytest.mark.parametrize(("heard", "left"), [(0, False), (50, True)])
def test_a_killed_search_has_used_the_time_until_it_was_last_heard_of(
    request_of: RequestOf, heard: int, left: bool
) -> None:
    request = request_of(time="20m", trials=1)
    process = start_processes(1, request, pause=PATIENCE)
    location = request.location_for("digits")
    wait_until(lambda: trials_in(location, "RUNNING"), process)
    process.kill()
    process.communicate()
    dead(location, began=timedelta(hours=1), heard=timedelta(minutes=heard))
    result = run_search(request)
    assert result.ending is (SearchEnding.DONE if left else SearchEnding.TIME_UP)
    assert result.newly_trained == left
    with opened(location) as study:
        trials = study.get_trials()
    assert LAST_HEARD in trials[0].user_attrs
    much_later = datetime.now() + timedelta(days=2)
    searched = searched_seconds(trials, much_later)
    assert searched < 1200 if left else searched > 3500
    assert run_search(request_of(time="none", trials=1)).study.trained == 1


def test_a_worker_of_another_machine_counts_until_it_was_last_heard_of(
    request_of: RequestOf,
) -> None:
    location = run_search(request_of(trials=1)).location
    with open_store(location) as store:
        running_trial(store, "elsewhere:1:1-0")
        dead(location, began=timedelta(hours=5, minutes=1), heard=timedelta(hours=5))
    opened: list[Opened] = []
    request = request_of(trials=3, time="1h", workers=2)
    result = run_search(request, on(Opened, opened.append))
    assert result.ending is SearchEnding.DONE
    assert 3000 < opened[0].seconds_left < 3600
    assert result.study.trials[1].reason == NOBODY


# The end


def test_a_trial_at_the_deadline_is_stopped_at_an_epoch_and_nothing_is_lost(
    request_of: RequestOf,
) -> None:
    request = request_of(time="0.5s", trials=3, **ENDLESS)
    result, events = sized(request)
    assert events == []  # all was given
    assert result.ending is SearchEnding.TIME_UP
    trial = result.study.trials[0]
    assert (trial.outcome, trial.reason) == (Outcome.STOPPED_EARLY, TIME_UP)
    assert trial.val_accuracy == trial.curve[-1][1]
    assert [epoch for epoch, _ in trial.curve] == list(range(1, len(trial.curve) + 1))
    with opened(result.location) as study:
        assert {t.state for t in study.get_trials()} == {TrialState.PRUNED}

    again = run_search(request)
    assert (again.ending, again.newly_trained) == (SearchEnding.TIME_UP, 0)
    assert again.study.trials == result.study.trials
    assert run_search(request_of(time="0.5s", trials=1, **ENDLESS)).ending is SearchEnding.DONE


def test_a_queued_design_that_is_too_slow_waits_for_more_time(request_of: RequestOf) -> None:
    location = run_search(request_of(trials=2)).location
    queue_design(location, blocks_1=2, channels_1=8)
    assert location.path is not None
    with closing(sqlite3.connect(location.path)) as database, database:  # as on a slow machine
        database.execute(
            "UPDATE trial_user_attributes SET value_json = '1e6' WHERE key = 'seconds'"
        )
    late = run_search(request_of(trials=4, time="1h"))
    assert (late.ending, late.newly_trained) == (SearchEnding.TIME_UP, 0)
    assert trials_in(location, "WAITING") == 1
    result = run_search(request_of(trials=3, time="none"))
    assert result.ending is SearchEnding.DONE
    design = result.study.trials[2].architecture
    assert design is not None
    assert (design.blocks, design.channels) == ((2,), (8,))


def test_workers_have_one_deadline(request_of: RequestOf) -> None:
    result = run_search(request_of(time="1s", trials=9, workers=2, **ENDLESS))
    assert result.ending is SearchEnding.TIME_UP
    assert result.study.trained >= 1
    assert {(t.outcome, t.reason) for t in result.study.trials} == {
        (Outcome.STOPPED_EARLY, TIME_UP)
    }


# What is chosen


def test_a_study_keeps_what_its_time_made_of_it(request_of: RequestOf) -> None:
    def asked(**changes: object) -> SearchRequest:
        return request_of(**{"epochs": None, "subset": None, "trials": 1, "time": "1s", **changes})

    first, (said,) = sized(asked())
    settings = first.study.settings
    assert (said.size.epochs, said.size.subset) == (settings.epochs, settings.subset)
    assert said.size.max_mult_adds is None  # the choices of a space that was given are to stay
    assert f"--epochs {settings.epochs}" in said.command
    for time in ("1s", "1h", "none", "auto"):
        again, events = sized(asked(time=time))
        assert events == []
        assert again.study.settings == settings
    more, events = sized(asked(time="1h", trials=2))
    assert (more.ending, more.study.trained, events) == (SearchEnding.DONE, 2, [])
    assert continued(more.study, {}).time == "1h"
    with pytest.raises(StudyError) as refused:
        run_search(asked(epochs=settings.epochs + 1))
    assert "epochs (--epochs)" in str(refused.value.__notes__)


def test_workers_find_the_study_whose_limits_its_time_has_lowered(request_of: RequestOf) -> None:
    open_parts = {"epochs": None, "subset": None, "space": None, "max_parameters": None}
    request = request_of(**open_parts, max_arena=1_000_000, time="1s", trials=9, workers=2)
    study = run_search(request).study
    assert study.name == "digits-arena-1000000"
    assert "mult_adds" in study.settings.limits


def test_a_study_made_without_a_limit_goes_on_with_one(request_of: RequestOf) -> None:
    made = run_search(request_of(trials=1))
    later = {"epochs": None, "subset": None, "trials": 2, "time": "1h"}
    result, events = sized(request_of(**later))
    assert (result.study.trained, events) == (2, [])
    assert result.study.settings == made.study.settings


class Begun(Exception):
    """The search has said what it is about."""


def opening(request: SearchRequest) -> tuple[Opened, list[TimeSized]]:
    """What a search says before its first trial, which it does not begin."""
    events: list[Event] = []

    def stop(event: Event) -> None:
        events.append(event)
        if isinstance(event, Opened):
            raise Begun

    with pytest.raises(Begun):
        run_search(request, stop)
    (opened,) = (event for event in events if isinstance(event, Opened))
    return opened, [event for event in events if isinstance(event, TimeSized)]


def test_a_search_of_hours_on_a_cpu_is_given_half_an_hour(request_of: RequestOf) -> None:
    plain = {"epochs": None, "subset": None, "space": None, "trials": 10**6, "device": "cpu"}
    opened, (said,) = opening(request_of(**plain))
    assert (said.time, opened.study.searches[-1]["time"]) == ("30m", "30m")
    assert (said.otherwise or 0) > 3600
    assert opened.seconds_left <= 1800
    assert said.trials < said.asked
    for name, value in {
        "time": "none",
        "timeout": 9.0,
        "epochs": 3,
        "max_mult_adds": 10**6,
    }.items():
        opened, events = opening(request_of(**{**plain, name: value, "study": name}))
        seconds = 9.0 if name == "timeout" else math.inf
        assert (events, opened.seconds_left) == ([], seconds)


def test_a_short_search_has_no_limit(request_of: RequestOf) -> None:
    opened, events = opening(request_of(epochs=None, subset=None, space=None, trials=2))
    assert (events, opened.seconds_left) == ([], math.inf)


def test_the_command_that_is_told_repeats_without_measuring(request_of: RequestOf) -> None:
    plain = {"epochs": None, "subset": None, "space": None, "trials": 1, "time": "1d"}
    first, (said,) = opening(request_of(**plain))
    assert said.size.max_mult_adds is None
    assert said.command.endswith("--max-mult-adds none")
    told = {**dataclasses.asdict(said.size), "max_mult_adds": "none", "study": "again"}
    again, events = opening(request_of(**{**plain, **told}))
    assert events == []
    assert again.study.settings == first.study.settings


def test_the_first_trial_is_a_small_design(request_of: RequestOf) -> None:
    result = run_search(request_of(time="1h", trials=1))
    space = load_space(Path(str(request_of().space)), result.study.settings.input)
    smallest = space.smallest(result.study.settings.limits, by="mult_adds")
    assert (result.study.trials[0].mult_adds or 0) <= 4 * count(smallest, space.input).mult_adds


def test_designs_above_the_limit_that_fits_the_time_are_left_out_and_told(
    request_of: RequestOf,
) -> None:
    plain = {"space": None, "time": "1h"}
    earlier = run_search(request_of(**plain, study="earlier", trials=2)).study
    least = min(t.mult_adds or 0 for t in earlier.trials)
    run_search(request_of(**plain, study="later", trials=1, max_mult_adds=least - 1))
    warnings: list[Warned] = []
    again = request_of(**plain, study="later", trials=3, workers=2, like="earlier")
    result = run_search(again, on(Warned, warnings.append))
    assert result.ending is SearchEnding.DONE
    assert {t.preset for t in result.study.trials} == {None}
    assert all(f"trial {t.number} of earlier" in warnings[0].warning for t in earlier.trials)


# What can still end in time


def trained(mult_adds: int, seconds: float, epochs: int) -> FrozenTrial:
    attributes = {"mult_adds": mult_adds, "seconds": seconds, "epochs": epochs}
    return create_trial(value=0.5, user_attrs=attributes)


@pytest.fixture
def limits_in(tiny_space: Path) -> Callable[..., Limits | None]:
    """What may be proposed after trials of 100,000 mult-adds that took 10 s an epoch."""
    image = ImageInput(channels=1, height=8, width=8, classes=10)
    candidates = Candidates(load_space(tiny_space, image), Limits(max_parameters=10**6))

    def limits(left: float, done: int = 20, wanted: int = 21, running: int = 0) -> Limits | None:
        counts = Counts(trained=done, proposed=done + running, running=running)
        trials = [trained(100_000, 20.0, 2)] * done
        return in_time(trials, candidates, counts, left=left, epochs=3, wanted=wanted)

    return limits


def test_what_cannot_end_in_time_is_not_begun(limits_in: Callable[..., Limits | None]) -> None:
    narrow = limits_in(left=15.0)
    assert narrow is not None
    assert narrow["mult_adds"] == 50_000  # three epochs of 5 s
    assert limits_in(left=1.0) is None
    few = limits_in(left=3.0, done=3)
    assert few is not None
    assert few["mult_adds"] < 30_000  # the smallest design, since so few are trained
    assert limits_in(left=3.0) is None
    assert limits_in(left=0.1, done=3) is None  # not even an epoch


def test_until_the_speed_is_known_every_worker_begins_with_a_small_design(
    limits_in: Callable[..., Limits | None],
) -> None:
    first, second = (limits_in(left=300.0, done=0, running=running) for running in (0, 1))
    assert first is not None
    assert first == second
    assert first["mult_adds"] < 100_000


def test_a_slow_machine_is_left_smaller_designs(limits_in: Callable[..., Limits | None]) -> None:
    many, few = limits_in(left=300.0, wanted=50), limits_in(left=300.0, wanted=21)
    assert many is not None
    assert few is not None
    assert many["mult_adds"] < few["mult_adds"]


# Values


def test_times_of_requests(request_of: RequestOf) -> None:
    known = {"90s": 90, "1.5m": 90, "2h": 7200, "1d": 86_400, 90: 90, 0.5: 0.5, 1234567: 1234567}
    for time, seconds in known.items():
        request = request_of(time=time)
        assert request.search_seconds == seconds
        assert dataclasses.replace(request) == request
    assert request_of(time=1234567).time == "1234567s"
    for time in ("none", "auto"):
        assert request_of(time=time).search_seconds == math.inf
    texts = ("soon", "3", "h", "-2h", "infs", "1_0m", " 2h", "2 h", "1e3s", ".5h")
    for wrong in (0, -1, True, math.inf, *texts):
        with pytest.raises(RequestError, match="time must be"):
            request_of(time=wrong)
