"""A study's records for other programs: a CSV file, and one JSON document."""

import csv
import io
import json
from dataclasses import replace

import pandas as pd
import pytest

from nas.report.export import study_document, trials_csv
from nas.study.settings import settings_to_json
from tests.kits.records import EVIL, SETTINGS, mixed, study, trial


class TestExport:
    def test_csv_holds_every_trial(self) -> None:
        record = mixed()
        read = pd.read_csv(io.BytesIO(trials_csv(record)))
        assert read["number"].tolist() == [t.number for t in record.trials]
        for row, told in zip(read.to_dict("records"), record.trials, strict=True):
            for name in ("outcome", "parameters", "val_accuracy", "seconds", "reason", "device"):
                value = getattr(told, name)
                assert (row[name] == value) if value is not None else pd.isna(row[name])
            assert json.loads(row["curve"]) == [list(point) for point in told.curve]
            if told.architecture is not None:
                assert json.loads(row["channels"]) == list(told.architecture.channels)

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
