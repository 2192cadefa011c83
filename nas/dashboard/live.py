"""A study that is being searched, read again and again; of trials that ended only once."""

import threading
from collections.abc import Sequence
from pathlib import Path

import optuna

from nas.dashboard import notes
from nas.report.document import encoded
from nas.report.page import render
from nas.report.unreadable import render_unreadable
from nas.study.location import OpenFile, StudyError, StudyLocation
from nas.study.optuna_private import study_id_of
from nas.study.reader import read_any_study, readable_record, study_record
from nas.study.records import StudyRecord, TrialRecord, UnreadableStudy
from nas.study.storage import storage_errors

_MANY = 1_000  # trials, of which a browser draws the overview's figures in ten seconds or more


class LiveStudy:
    """What a dashboard says of an open study, from what it holds now. It writes nothing.

    Args:
        study: open.
        location: of the study.
        model: folder of its final training; need not be there.
        number: by which addresses name it; None: that of its storage.
    """

    def __init__(
        self, study: optuna.Study, location: StudyLocation, model: Path, number: int | None = None
    ) -> None:
        self.id: int = study_id_of(study)
        self.number = self.id if number is None else number
        self.model = model
        self._study = study
        self._location = location
        self._file = OpenFile.at(location.path) if location.path is not None else None
        self._ended: dict[int, TrialRecord] = {}
        self._notes: dict[int, str] = {}  # of trials that ended
        self._note: tuple[object, str] | None = None
        self._report: tuple[object, bytes] | None = None
        self._rendering = threading.Lock()

    @property
    def name(self) -> str:
        """Of the study."""
        return self._location.name

    @property
    def report_address(self) -> str:
        """Address of its report."""
        return f"/report/{self.number}"

    @property
    def optuna_address(self) -> str:
        """Address of Optuna's pages on it.

        Raises:
            StudyError: the database cannot be read.
        """
        with storage_errors(self._location):
            many = len(self._study.get_trials(deepcopy=False)) > _MANY
        return f"/dashboard/studies/{self.number}{'/trials' if many else ''}"

    def check(self) -> None:
        """Checks that the study's file is where it was.

        Raises:
            StudyGone: it was removed or replaced.
        """
        if self._file is not None:
            self._file.check()

    def record(self) -> StudyRecord:
        """The study as it is now.

        Raises:
            StudyError: it was not made by nas, or by another version, or cannot be read.
        """
        with storage_errors(self._location):
            return study_record(self._study, self._location, self._trials())

    def report(self) -> bytes:
        """The report, rendered anew when a trial has ended or test images were read since.

        Raises:
            StudyError: the study cannot be read.
        """
        with self._rendering:
            study: StudyRecord | UnreadableStudy
            try:
                study = self.record()
            except StudyError:
                study = read_any_study(self._location)
            if isinstance(study, UnreadableStudy):
                return encoded(render_unreadable(study))
            state = _state(study)
            if self._report is None or self._report[0] != state:
                self._report = (state, encoded(render(study, self.model)))
            return self._report[1]

    def note(self, study: StudyRecord, model: Sequence[str]) -> str:
        """The note of the study, as of its last trial that has ended.

        `model` are the addresses of the files of its final model.
        """
        state = (_state(study), list(model))
        if self._note is None or self._note[0] != state:
            note = notes.study_note(study, report=self.report_address, model=model)
            self._note = (state, note)
        return self._note[1]

    def trial_note(self, number: int, study: StudyRecord) -> str:
        """The note of a trial; empty for a number that there is not."""
        if number in self._notes:
            return self._notes[number]
        trial = _numbered(study, number)
        if trial is None:
            return ""
        # Another address for another picture: a browser asks only once for each.
        address = f"/curve/{self.number}/{number}.svg?epochs={len(trial.curve)}"
        note = notes.trial_note(trial, study.settings, curve=address)
        if trial.finished is not None:
            self._notes[number] = note
        return note

    def curve(self, number: int) -> str | None:
        """The picture of a trial's learning curve as SVG; None where there is none.

        Raises:
            StudyError: as `record`.
        """
        study = self.record()
        trial = _numbered(study, number)
        if trial is None or not trial.curve:
            return None
        return notes.curve_svg(trial.curve, study.settings.epochs)

    def _trials(self) -> list[TrialRecord]:
        records = []
        for trial in self._study.get_trials(deepcopy=False):
            record = self._ended.get(trial.number)
            if record is None:
                record = readable_record(trial)
                if trial.state.is_finished():
                    self._ended[trial.number] = record
            records.append(record)
        return records


def _state(study: StudyRecord) -> tuple[object, ...]:
    """What a page or note about all of a study depends on."""
    return [t for t in study.trials if t.outcome is not None], study.readings


def _numbered(study: StudyRecord, number: int) -> TrialRecord | None:
    """The trial of a number; where trials were deleted that is not its place."""
    if number < len(study.trials) and study.trials[number].number == number:
        return study.trials[number]
    return next((trial for trial in study.trials if trial.number == number), None)
