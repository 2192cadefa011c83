"""Searches with a limit of latency; none of these tests asks how long anything took."""

import itertools
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime
import pytest

from nas.architecture import Architecture, ImageInput
from nas.commands import main
from nas.counting import count_parameters
from nas.dashboard.notes import trial_note
from nas.errors import RequestError
from nas.export.timing import Stopwatch
from nas.latency import FLOAT, INT8, LatencyLimit, TimedLayer, layers_of
from nas.report import overview
from nas.report.page import render
from nas.report.trials import leaderboard_table
from nas.search.continuing import continued
from nas.search.events import Event, MeasuringLatency, TrialEnded
from nas.search.measuring import begin_latencies, likely_limits, make_clock
from nas.search.request import SearchRequest
from nas.search.run import run_search
from nas.study.latencies import (
    MACHINES,
    begin_measuring,
    machine_in_words,
    read_latencies,
    write_latencies,
)
from nas.study.listing import ListedStudy, list_studies
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study
from nas.study.records import Outcome
from nas.study.store import Store, open_store
from nas.text import milliseconds, share
from tests.kits.commands import error_of
from tests.kits.events import on
from tests.kits.studies import TINY_SPACE, RequestOf, queue_design, start_processes
from tests.kits.waiting import wait_until

ENOUGH = 10_000.0  # ms: no design of these tests takes as long
DIGITS = ImageInput(channels=1, height=8, width=8, classes=10)
SMALL = Architecture(blocks=(1,), channels=(4,), kernels=(3,), shortcut_kernels=(1,), pool=4)


@contextmanager
def opened(request: SearchRequest) -> Iterator[Store]:
    with open_store(request.location_for("digits")) as store:
        yield store


def measured(request: SearchRequest) -> dict[str, object]:
    with opened(request) as store:
        return dict(read_latencies(store))


def make_up(request: SearchRequest, parameters: int) -> None:
    """Writes the latency of every design: 50 ms up to so many parameters, else 500 ms."""
    assert request.latency is not None
    space = request.space_for(DIGITS)
    designs = [space.architecture(*found) for found in space.designs(request.limits)]
    layers = {str(layer): 1.0 for design in designs for layer in layers_of(design, DIGITS)}
    wholes = {
        design.key: [50.0 if count_parameters(design, DIGITS) <= parameters else 500.0, *[1.0] * 4]
        for design in designs
    }
    with opened(request) as store:
        begin_measuring(store, make_clock(request.latency).machine)
        write_latencies(store, {**layers, **wholes})


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyLocation, list[Event]]:
    """A study with a limit of latency that no test may change, and what its search said."""
    directory = tmp_path_factory.mktemp("searched")
    space = directory / "tiny.toml"
    space.write_text(TINY_SPACE)
    events: list[Event] = []
    request = RequestOf(directory, space)(trials=1, max_latency=ENOUGH)
    return run_search(request, events.append).location, events


@pytest.fixture
def copied(request_of: RequestOf, searched: tuple[StudyLocation, list[Event]]) -> SearchRequest:
    """The request that made it, for a copy."""
    request = request_of(trials=1, max_latency=ENOUGH)
    path, copy = searched[0].path, request.location_for("digits").path
    assert path is not None
    assert copy is not None
    copy.parent.mkdir()
    shutil.copy(path, copy)
    return request


def test_a_search_measures_what_it_trains_and_what_was_measured_is_kept(
    request_of: RequestOf, copied: SearchRequest, searched: tuple[StudyLocation, list[Event]]
) -> None:
    location, events = searched
    study, request = read_study(location), copied
    (said,) = [event for event in events if isinstance(event, MeasuringLatency)]
    assert study.latency_machines == (said.machine,)
    assert said.machine["runtime"] == f"ONNX Runtime {onnxruntime.__version__}"
    assert study.settings.latency == LatencyLimit(max_ms=ENOUGH)
    rows = measured(request)
    for trial in study.ranking:
        assert trial.architecture is not None
        assert trial.latency_ms is not None
        assert trial.latency_estimate_ms is not None
        row = rows[trial.architecture.key]
        assert isinstance(row, list)
        assert round(row[0], 4) == trial.latency_ms
    more = run_search(request_of(trials=3, max_latency=ENOUGH)).study
    assert more.trained == 3
    assert rows.items() <= measured(request).items()
    assert list(leaderboard_table(more)["latency_ms"]) == [
        trial.latency_ms for trial in more.ranking
    ]
    page = render(more)
    assert "Latency, estimated" in page
    assert "a latency of 10,000 ms (float, 1 thread)" in page


def test_designs_above_the_limit_are_refused_and_no_other_is_trained(
    request_of: RequestOf,
) -> None:
    request = request_of(trials=100, max_latency=100.0)
    make_up(request, parameters=2_000)
    location = request.location_for("digits")
    run_search(request_of(trials=1, max_latency=100.0))
    queue_design(location, blocks_1=2, channels_1=8)
    study = run_search(request).study
    assert study.trained > 5
    for trial in study.trials:
        assert trial.parameters is not None
        slow = trial.parameters > 2_000
        assert trial.outcome is (Outcome.OVER_BUDGET if slow else Outcome.TRAINED)
        assert trial.latency_ms == (500.0 if slow else 50.0)
    (refused,) = [trial for trial in study.trials if trial.outcome is Outcome.OVER_BUDGET]
    note = trial_note(refused, study.settings, curve="curve.svg")
    assert "500 ms of latency are more than the limit of 100 ms" in note
    space = request.space_for(DIGITS)
    fast = {
        design.key
        for found in space.designs(request.limits)
        if count_parameters(design := space.architecture(*found), DIGITS) <= 2_000
    }
    assert {t.architecture.key for t in study.ranking if t.architecture} == fast  # and it ended


def of_another_machine(request: SearchRequest) -> None:
    with opened(request) as store:
        (machine,) = store.study.user_attrs[MACHINES]
        store.study.set_user_attr(MACHINES, [{**machine, "processor": "Z80"}])


def test_a_study_of_another_machine_is_refused_or_measured_anew(
    request_of: RequestOf, copied: SearchRequest
) -> None:
    request = copied
    of_another_machine(request)
    with opened(request) as store:
        write_latencies(store, {"conv 1 1 1 1 1 1": 7.0})
    before = measured(request)
    with pytest.raises(StudyError, match=r"Z80.*--latency-anew"):
        run_search(request_of(trials=2, max_latency=ENOUGH))
    assert measured(request) == before
    study = run_search(request_of(trials=2, max_latency=ENOUGH, latency_anew=True)).study
    assert study.trained == 2
    assert [machine["processor"] == "Z80" for machine in study.latency_machines] == [True, False]
    assert "conv 1 1 1 1 1 1" not in measured(request)


def test_a_search_ends_when_another_machine_begins_to_measure_its_study(
    request_of: RequestOf, copied: SearchRequest
) -> None:
    def another_begins(event: TrialEnded) -> None:
        of_another_machine(copied)
        known.append(measured(copied))

    known: list[dict[str, object]] = []
    with pytest.raises(StudyError, match=r"Z80.*--latency-anew"):
        run_search(request_of(trials=9, max_latency=ENOUGH), on(TrialEnded, another_begins))
    assert [measured(copied)] == known
    assert read_study(copied.location_for("digits")).trained == 2


def test_of_machines_that_begin_a_study_at_once_the_first_one_measures(
    copied: SearchRequest,
) -> None:
    of_another_machine(copied)
    before = measured(copied)
    assert copied.latency is not None
    clock, space = make_clock(copied.latency), copied.space_for(DIGITS)
    with opened(copied) as store, pytest.raises(StudyError, match=r"Z80.*--latency-anew"):
        begin_latencies(store, clock, space, copied.limits, anew=False)
    assert measured(copied) == before


@pytest.mark.usefixtures("copied")
def test_another_limit_of_latency_is_another_study(request_of: RequestOf) -> None:
    for changed in ({"max_latency": 9_000}, {}, {"max_latency": ENOUGH, "latency_threads": 2}):
        with pytest.raises(StudyError, match="settings") as refused:
            run_search(request_of(trials=2, **changed))
        assert "latency" in refused.value.__notes__[0]


def test_workers_measure_in_turn_and_find_what_others_have_measured(
    request_of: RequestOf,
) -> None:
    request = request_of(trials=4, workers=2, max_latency=ENOUGH)
    study = run_search(request).study
    assert study.trained == 4
    assert all(trial.latency_ms for trial in study.ranking)


def test_a_limit_of_latency_needs_no_other(request_of: RequestOf) -> None:
    request = request_of(max_parameters=None, max_latency=ENOUGH, trials=2, workers=2)
    study = run_search(request).study
    assert (study.name, study.trained) == ("digits-latency-10000ms", 2)
    assert "with a latency of 10,000 ms (float, 1 thread)." in overview.asked(study)
    assert "any size" not in render(study)
    assert continued(study, {"studies_dir": request.studies_dir}).latency == request.latency
    (listed,) = list_studies(request.studies_dir)
    assert isinstance(listed, ListedStudy)
    assert listed.within == study.settings.within


def test_who_is_killed_while_it_measures_stops_no_other(request_of: RequestOf) -> None:
    request = request_of(trials=2, max_latency=ENOUGH)
    location = request.location_for("digits")
    process = start_processes(1, request)

    def begun() -> bool:
        if location.path is None or not location.path.is_file():
            return False
        try:
            return bool(read_study(location).latency_machines)
        except StudyError:
            return False

    wait_until(begun, process)
    process.kill()
    process.communicate()
    assert run_search(request).study.trained == 2


def test_a_limit_below_the_smallest_design_is_refused_before_anything_is_made(
    request_of: RequestOf,
) -> None:
    request = request_of(max_latency=1e-6)
    with pytest.raises(RequestError, match=r"--max-latency: expected at least .* smallest design"):
        run_search(request)
    assert not request.studies_dir.exists()


@pytest.mark.usefixtures("own_directory", "tiny_space")
class TestCommand:
    FAST = ("search", "--budget", "5M", "--dataset", "digits", "--space", "tiny.toml")

    def test_without_the_package_it_says_what_to_install(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        line = error_of(capsys, main([*self.FAST, "--max-latency", "5ms"]))
        assert line.endswith("got none; pip install 'nas[int8]'")
        assert not Path("studies").exists()

    @pytest.mark.parametrize(
        "options",
        [
            *(["--max-latency", wrong] for wrong in ("5", "0ms", "fast", "-1ms")),
            ["--max-latency", "5ms", "--latency-threads", "0"],
            ["--latency-threads", "2"],
            ["--latency-of", "int8"],
            ["--latency-anew"],
        ],
        ids=" ".join,
    )
    def test_bad_options_are_refused(
        self, options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = error_of(capsys, main([*self.FAST, *options]))
        assert "latency" in line

    def test_goes_on_by_the_name_of_the_study_alone(
        self, copied: SearchRequest, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["search", "--study", "digits-5M", "--trials", "2"]) == 0
        assert "latency ms" in capsys.readouterr().out
        study = read_study(copied.location_for("digits"))
        assert study.trained == 2
        assert study.settings.latency == LatencyLimit(max_ms=ENOUGH)

    def test_a_final_training_says_what_was_measured_and_where(
        self, copied: SearchRequest, capsys: pytest.CaptureFixture[str]
    ) -> None:
        study = read_study(copied.location_for("digits"))
        best = study.incumbent
        assert best is not None
        assert best.latency_ms is not None
        part = share(best.latency_ms / ENOUGH)
        said = f"{milliseconds(best.latency_ms)} of latency ({part} of 10,000 ms, float, 1 thread)"
        few = ("--top", "1", "--seeds", "1", "--recipe", "fast", "--epochs", "1")
        assert main(["final", "--study", study.name, *few, "--json"]) == 0
        final = json.loads(capsys.readouterr().out)
        assert final["latency"]["ms"] == best.latency_ms
        assert final["latency"]["machines"] == list(study.latency_machines)
        assert main(["final", "--study", study.name, *few]) == 0  # what stands is said again
        assert said in capsys.readouterr().out
        card = Path(final["folder"], "README.md").read_text()
        assert study.settings.within in card
        machine = machine_in_words(study.latency_machines[0])
        assert f"{said} for one image, measured in the search with {machine}." in card


@pytest.mark.parametrize("of", [FLOAT, INT8])
def test_layers_and_designs_of_both_kinds_can_be_timed(of: str) -> None:
    clock = Stopwatch(LatencyLimit(max_ms=1, of=of))
    for layer in sorted(set(layers_of(SMALL, DIGITS))):
        assert 0 < clock.layer(layer) < ENOUGH
    assert 0 < clock.design(SMALL, DIGITS) < ENOUGH


def test_a_clock_that_stands_still_for_a_run_at_times_shortens_no_latency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, calls, now = time.thread_time, itertools.count(), 0.0

    def standing() -> float:
        nonlocal now
        now = now if next(calls) % 30 == 29 else clock()  # at the end of every 15th run
        return now

    monkeypatch.setattr(time, "thread_time", standing)
    assert Stopwatch(LatencyLimit(max_ms=1)).design(SMALL, DIGITS) > 0


def test_a_large_layer_takes_longer_than_a_small_one() -> None:
    clock = Stopwatch(LatencyLimit(max_ms=1))
    small, large = (TimedLayer("conv", c, c, 16, 16, 3, 1) for c in (8, 128))
    assert clock.layer(small) < clock.layer(large)


def test_the_smallest_design_is_named_where_it_is_too_slow(request_of: RequestOf) -> None:
    request = request_of(max_latency=ENOUGH)
    space = request.space_for(DIGITS)
    likely = likely_limits(make_clock(LatencyLimit(max_ms=ENOUGH)), space, request.limits)
    assert likely.items() >= request.limits.items()
    with pytest.raises(RequestError, match=r"B1(,1)? C4"):
        likely_limits(make_clock(LatencyLimit(max_ms=1e-6)), space, request.limits)
