"""A study's records for other programs: a CSV file, and one JSON document."""

import csv
import io
import json
from dataclasses import fields, replace
from datetime import datetime

import pandas as pd
import pytest

from nas.architecture import FIELD_NAMES
from nas.report.export import study_document, trials_csv
from nas.study.records import TrialRecord
from nas.study.settings import settings_to_json
from nas.training.tuning import REAL_VALUES
from tests.kits.records import EVIL, SETTINGS, mixed, study, trial


class TestExport:
    def test_csv_holds_every_trial(self) -> None:
        record = mixed()
        read = pd.read_csv(io.BytesIO(trials_csv(record)))
        assert read["number"].tolist() == [t.number for t in record.trials]
        for row, told in zip(read.to_dict("records"), record.trials, strict=True):
            for name in {f.name for f in fields(TrialRecord)} - {"architecture", "training"}:
                value = getattr(told, name)
                if value is None:
                    assert pd.isna(row[name])
                elif name in ("started", "finished"):
                    assert datetime.fromisoformat(row[name]) == value
                elif name != "curve":
                    assert row[name] == value
            assert json.loads(row["curve"]) == [list(point) for point in told.curve]
            if told.architecture is not None:
                assert json.loads(row["channels"]) == list(told.architecture.channels)

    def test_csv_and_json_hold_every_field_of_a_trial(self) -> None:
        """The design in its own columns, and what was tuned by its names."""
        training = {name: "1" for name in REAL_VALUES}
        trials = (replace(trial(0), training=training, forecast="chance 0.10%"), trial(1))
        document = study_document(study(*trials))["trials"]
        assert all({f.name for f in fields(TrialRecord)} <= one.keys() for one in document)
        assert [one["forecast"] for one in document] == ["chance 0.10%", None]
        rows = [*csv.DictReader(io.StringIO(trials_csv(study(*trials)).decode(), newline=""))]
        columns = {f.name for f in fields(TrialRecord)} - {"architecture", "training"}
        assert columns | {*FIELD_NAMES, *REAL_VALUES} <= rows[0].keys()
        assert [row["forecast"] for row in rows] == ["chance 0.10%", ""]
        assert {rows[0][name] for name in REAL_VALUES} == {"1"}

    @pytest.mark.parametrize("text", [EVIL, 'a,"b"\nc', "a\rb", "\r\n", "\u2028", "=1+1"])
    def test_any_text_comes_back_from_csv(self, text: str) -> None:
        record = study(replace(trial(0), reason=text))
        (row,) = csv.DictReader(io.StringIO(trials_csv(record).decode(), newline=""))
        assert row["reason"] == text

    def test_document_holds_everything_and_is_json(self) -> None:
        record = mixed()
        odd = replace(trial(12), curve=((1, float("nan")),))
        record = replace(record, trials=(*record.trials, odd), searches=({"seed": 7},))
        document = json.loads(json.dumps(study_document(record), allow_nan=False))
        assert document["settings"] == json.loads(json.dumps(settings_to_json(SETTINGS)))
        assert document["incumbent"] == 4
        assert document["searches"] == [{"seed": 7}]
        assert [t["number"] for t in document["trials"]] == list(range(13))
        assert document["trials"][4]["architecture"]["channels"] == [20, 40, 80]
        assert document["trials"][12]["curve"] == [[1, None]]
