"""A final training: the best designs of a study in full, one chosen, tested once, exported."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from nas.errors import RequestError
from nas.export.formats import check_packages
from nas.files import remove_unfinished
from nas.final.choosing import (
    Entry,
    best_run,
    designs_of,
    differences,
    gain_over,
    left_out,
    planned,
    ranked,
    seeds_of,
)
from nas.final.distilling import distill, taught, teacher_of, with_teacher
from nas.final.events import (
    DesignChosen,
    MakingInt8,
    OnEvent,
    Opened,
    ReadingTestImages,
)
from nas.final.expected import epoch_seconds
from nas.final.folder import (
    FinalResult,
    add_int8,
    check_images,
    held_record,
    locked,
    missing,
    spec_of,
    write_network,
)
from nas.final.int8 import Int8, make_int8
from nas.final.records import (
    BY_EXPECTATION,
    FinalDesign,
    FinalRecord,
    Int8Accuracy,
    Measured,
    MeasuredLatency,
)
from nas.final.request import ALL, NO_TEACHER, RUNS, TRAIN, FinalRequest, final_folder
from nas.final.runs import RunResult
from nas.final.testing import MISTAKES, Tested, exported_record, test_once, write_pictures
from nas.final.workers import FinalFailed, FinalRuns
from nas.model import ResNet
from nas.runtime import signals
from nas.runtime.arithmetic import ChosenPrecision, choose
from nas.runtime.devices import find_device, in_words, open_device
from nas.runtime.liveness import worker_name
from nas.runtime.pool import check_is_no_import, check_workers
from nas.runtime.precision import Precision
from nas.search.continuing import DataOptions, data_options
from nas.search.events import Loading, ignore
from nas.study.creation import versions
from nas.study.location import OpenFile, StudyError, StudyGone, StudyLocation, check_directory
from nas.study.reader import read_study
from nas.study.records import StudyRecord
from nas.study.storage import storage_errors
from nas.study.store import open_store
from nas.study.test_access import begin_reading, check_unread, end_reading
from nas.training.teacher import networks_digest

__all__ = ["FinalFailed", "FinalResult", "run_final"]


def run_final(
    request: FinalRequest, on_event: OnEvent = ignore, *, command: str | None = None
) -> FinalResult:
    """Trains the best designs of a study in full, chooses one, tests it once and exports it.

    The choice is by mean validation accuracy. Then all networks of the chosen design and of the
    references are tested in one reading of the test images, which the study logs. Runs that are
    done are not done again: the same request again continues, or gives the result that is valid.

    Args:
        request: what to train. With `workers` a program's main module needs the usual
            ``if __name__ == "__main__"``.
        on_event: gets what happens.
        command: how a person would repeat this; kept in the study.

    Raises:
        RequestError: a design, the device or the precision cannot be used, no design was trained
            to the end, or the weights of a finished run are damaged.
        StudyError: the study cannot be used, or its test set was read for another choice.
        DataError: the dataset cannot be had, or is not the study's.
        FinalFailed: no finalist could be trained, the workers died, or the study's file is gone.
        OSError: the folder of the runs cannot be written.
        KeyboardInterrupt: on Ctrl-C or SIGTERM.
    """
    check_is_no_import()
    location = StudyLocation.at(
        request.study, studies_dir=request.studies_dir, storage=request.storage
    )
    study = read_study(location)
    runs = (request.top + len(request.baselines)) * request.seeds
    check_workers(request.device, request.workers, request.per_gpu, useful=runs)
    precision = choose(request.precision, find_device(request.device))
    folder = final_folder(request.studies_dir, location)
    data = data_options(
        study,
        data_dir=request.data_dir,
        skip_broken=request.skip_broken,
        drop_duplicates=request.drop_duplicates,
    )
    final = _Final(request, data, on_event, location, study, folder, precision, command)
    location.check()  # what is found must be logged
    check_directory("--studies-dir", folder)
    file = OpenFile.at(location.path) if location.path is not None else None
    for place in (folder, folder / MISTAKES):
        remove_unfinished(place)
    with signals.listening():
        if (valid := final.valid_result(study)) is not None:
            # A folder that is gone has no runs to make the model of, and is not made anew.
            with locked(folder) if folder.exists() else nullcontext():
                return final.with_model(valid)
        final.read_images(precision.precision)
        folder.mkdir(parents=True, exist_ok=True)
        with _must_stay(file):
            finalists, results = final.train()
            if file is not None:
                file.check()  # before a lock or a database is made anew
            with locked(folder):
                # Another process may have ended the same final training meanwhile.
                if (valid := final.valid_result(read_study(location))) is not None:
                    return final.with_model(valid)
                return final.test_and_export(finalists, results)


@contextmanager
def _must_stay(file: OpenFile | None) -> Iterator[None]:
    """A block that fails for the reason that its study's file is gone, if that is so."""
    try:
        yield
    except (FinalFailed, OSError, StudyGone):
        try:
            if file is not None:
                file.check()
        except StudyGone as gone:
            raise FinalFailed(f"{gone}; finished runs are kept") from gone
        raise


@dataclass
class _Final:
    """One final training, step by step in the order of the methods."""

    request: FinalRequest
    data: DataOptions
    on_event: OnEvent
    location: StudyLocation
    study: StudyRecord
    folder: Path
    precision: ChosenPrecision
    command: str | None

    def __post_init__(self) -> None:
        self._seeds = seeds_of(self.study, self.request.seeds)
        self._formats = self.request.formats(self.study.settings.limits)
        check_packages(self._formats)
        self._entries, self._plan = planned(
            self.study,
            self.request,
            self.precision.precision,
            drop_duplicates=self.data.drop_duplicates,
        )

    def valid_result(self, study: StudyRecord) -> FinalRecord | None:
        """What an earlier reading for the very same request found.

        Raises:
            StudyError: the test set was read for another request, or by another version.
        """
        reading = check_unread(study.readings, self._plan, again=self.request.again)
        if reading is None:
            return None
        try:
            return FinalRecord.from_dict(reading.result)
        except ValueError as error:
            raise StudyError(
                f"expected a result that this version of nas can read, got {error}; use the "
                "version that ran the test, or test once more with --again"
            ) from error

    def with_model(self, record: FinalRecord) -> FinalResult:
        """A valid result, with its model and int8 files, made again where they are missing.

        No test image is read for that, so that the pictures of mistakes stay missing.

        Raises:
            RequestError: the model is missing, and so are the weights of its run.
        """
        untested = replace(record, int8=())
        held = held_record(self.folder)
        if held is not None and replace(held, int8=()) != untested:
            held = None
        left = [] if self.request.export == () else missing(self._formats, record, held)
        check_packages(left)
        if held is None or left:
            self.read_images(record.precision, record)
        if held is None:
            chosen = record.chosen
            entry = Entry(chosen.name, chosen.architecture, None)
            if chosen.distilled:
                teacher = teacher_of(self.request.teacher, entry, record.seeds)
                entry = replace(entry, teacher=teacher)
            (run,) = entry.runs([record.exported.seed], record.on)
            try:
                network = self._runs.run_folder(run).network()
            except RequestError as error:
                if record.study == self.study.name:
                    raise
                before = replace(self.location, name=record.study)
                raise RequestError(
                    f"{self.folder}: expected the files of the final training, got none, since "
                    f"the study was named {record.study!r} at the time; copy them from "
                    f"{final_folder(self.request.studies_dir, before)}"
                ) from error
            held = untested
            write_network(self.folder, network, held, self._runs.dataset, {})
        if not left:
            return FinalResult(held, self.folder, tested_now=False)
        open_device(self.request.device, self.request.threads)
        self.on_event(MakingInt8())
        most = self.request.max_int8_loss
        return add_int8(self.folder, left, self._runs.dataset, most=most, tested=record.int8)

    def read_images(self, precision: Precision, tested: FinalRecord | None = None) -> None:
        """The training and validation part, which must be the study's, for new runs or tested ones.

        Raises:
            DataError: it cannot be had, or is another.
        """
        self.on_event(Loading())
        self._device = find_device(self.request.device)
        self._runs = FinalRuns(
            request=self.request,
            data=self.data,
            folder=self.folder / RUNS,
            precision=precision,
            tested=tested,
        )
        check_images(self._runs.dataset, self.study, self.data)
        self._labels_I = self._runs.dataset.validation.labels_N

    def train(self) -> tuple[list[FinalDesign], list[RunResult]]:
        """The finalists, the chosen one first, and all runs.

        Raises:
            FinalFailed: no finalist could be trained.
        """
        finalists = [entry for entry in self._entries if entry.trial is not None]
        references = [entry for entry in self._entries if entry.trial is None]
        first = self._entries if self.request.on == TRAIN else finalists
        runs = [run for entry in first for run in entry.runs(self._seeds, TRAIN)]
        left = self._runs.left(runs)
        share = self._runs.share(left)
        images, kind = len(self._runs.dataset.train), self._device.type
        self.on_event(
            Opened(
                self.study,
                runs,
                epochs=self._runs.config(TRAIN).epochs,
                device=in_words(self._device, share),
                precision=str(self.precision),
                left=left,
                workers=share.workers,
                threads=share.computing(self._device),
                epoch_seconds=epoch_seconds(self.study, runs, train_images=images, kind=kind),
                left_out=left_out(self.study, finalists),
            )
        )
        results = self._runs.train_all(runs, left, self.on_event)
        ranking = ranked(self._designs(finalists, results), results, self._labels_I)
        if ranking[0].validation is None:
            raise FinalFailed(
                f"every finalist has a run that failed: {ranking[0].name}, "
                f"{ranking[0].failed}; another --recipe may help"
            )
        if self.request.teacher != NO_TEACHER:
            (best,) = (entry for entry in finalists if entry.name == ranking[0].name)
            finalists.append(distill(best, self._runs, self._seeds, results, self.on_event))
            ranking = ranked(self._designs(finalists, results), results, self._labels_I)
        self.on_event(DesignChosen(ranking))
        (chosen,) = (entry for entry in finalists if entry.name == ranking[0].name)
        if chosen.teacher:  # the references as they are, too, for what others published of them
            references += [taught(entry, chosen.teacher) for entry in references]
        self._entries, self._tested = finalists + references, [chosen, *references]
        what = "on the training and validation images" if self.request.on == ALL else "to compare"
        runs = [r for entry in self._tested for r in entry.runs(self._seeds, self.request.on)]
        self._runs.train_more(runs, results, what, self.on_event)
        return ranking, results

    def test_and_export(
        self, finalists: Sequence[FinalDesign], results: Sequence[RunResult]
    ) -> FinalResult:
        """Reads the test images once, logs it in the study, and writes the model's folder.

        Before that int8 files are made and judged.

        Raises:
            FinalFailed: the chosen design's runs on all images failed.
            RequestError: the weights of a run are damaged.
        """
        final, dataset = self._runs, self._runs.dataset
        tested = [r for r in results if r.run.on == self.request.on and not r.failed]
        names = [entry.name for entry in self._tested]
        by_name = {name: [r for r in tested if r.run.name == name] for name in names}
        runs = {name: found for name, found in by_name.items() if len(found) == len(self._seeds)}
        if finalists[0].name not in runs:
            raise FinalFailed(f"{finalists[0].name}, which was chosen, failed on all images")
        networks = {
            name: [final.run_folder(result.run).network() for result in found]
            for name, found in runs.items()
        }
        number = best_run(runs[finalists[0].name], self._labels_I, self.request.on)
        exported = networks[finalists[0].name][number]
        device = open_device(self.request.device, self.request.threads)
        int8 = self._int8(exported)
        digest = networks_digest([n.state_dict() for found in networks.values() for n in found])
        with worker_name() as worker, open_store(self.location) as database:
            with storage_errors(self.location), database.allocation_lock():
                reading = begin_reading(
                    database.study,
                    plan=self._plan,
                    networks=digest,
                    command=self.command,
                    worker=worker,
                    again=self.request.again,
                )
            self.on_event(ReadingTestImages(dataset.test_images))
            signals.check()  # later, too: a reading that is cut off is gone on with
            look = test_once(networks, exported, int8.networks, dataset, self.data, device)
            record = self._record(
                finalists, results, look, int8, seed=self._seeds[number], readings=reading + 1
            )
            write_network(self.folder, exported, record, dataset, int8.contents)
            write_pictures(look, record.exported.mistakes, self.folder)
            with storage_errors(self.location), database.allocation_lock():
                end_reading(database.study, reading, record.to_dict())
        return FinalResult(record, self.folder, tested_now=True, refused=int8.refused)

    def _int8(self, network: ResNet) -> Int8:
        if not self._formats:
            return Int8((), ())
        self.on_event(MakingInt8())
        dataset, most = self._runs.dataset, self.request.max_int8_loss
        spec, on, limits = spec_of(network, dataset), self.request.on, self.study.settings.limits
        return make_int8(self._formats, network, spec, dataset, on=on, limits=limits, most=most)

    def _designs(self, entries: Sequence[Entry], results: Sequence[RunResult]) -> list[FinalDesign]:
        dataset = self._runs.dataset
        designs = designs_of(entries, results, self._labels_I, dataset.input, dataset.name)
        return [
            with_teacher(design, entry, results, self._labels_I)
            for design, entry in zip(designs, entries, strict=True)
        ]

    def _record(
        self,
        finalists: Sequence[FinalDesign],
        results: Sequence[RunResult],
        look: Tested,
        int8: Int8,
        *,
        seed: int,
        readings: int,
    ) -> FinalRecord:
        request, settings, dataset = self.request, self.study.settings, self._runs.dataset
        on_train = [result for result in results if result.run.on == TRAIN]
        references = self._designs([e for e in self._entries if e.trial is None], on_train)
        failed = {r.run.name: r.failed for r in results if r.failed}

        def with_test(design: FinalDesign) -> FinalDesign:
            if design.name in look.correct:
                return replace(design, test=Measured.of(look.correct[design.name]))
            return replace(design, failed=design.failed or failed.get(design.name))

        chosen, others = finalists[0], finalists[1:]
        alike = request.subset == 1 and look.is_as_published(dataset.name)
        references = [with_test(design) for design in references]
        return FinalRecord(
            study=self.study.name,
            dataset=dataset.name,
            input=dataset.input,
            classes=dataset.classes,
            notes=tuple(dict.fromkeys((*dataset.notes, *look.notes, *differences(results)))),
            limits=settings.limits,
            recipe_name=request.recipe,
            recipe=self._runs.config(request.on).to_dict(),
            on=request.on,
            subset=request.subset,
            seeds=self._seeds,
            train_images=len(self._runs.part(request.on).train),
            validation_images=len(dataset.validation),
            test_images=len(look.images),
            finalists=(with_test(chosen), *others),
            references=tuple(references),
            gains=tuple(
                gain_over(chosen.name, design, look, alike=alike)
                for design in references
                if design.test and bool(design.distilled) == bool(chosen.distilled)
            ),
            exported=exported_record(look, dataset.classes, seed),
            read=datetime.now().astimezone().isoformat(timespec="seconds"),
            readings=readings,
            seconds=sum(result.seconds for result in results),
            devices=tuple(dict.fromkeys(result.device for result in results)),
            versions=versions(),
            command=self.command,
            int8=tuple(
                file
                for accepted, right_N in zip(int8.accepted, look.int8, strict=True)
                for file in accepted.records(Int8Accuracy.of(right_N, look.right_N))
            ),
            latency=MeasuredLatency.of(self.study, chosen.trial),
            finalists_by=BY_EXPECTATION,
        )
