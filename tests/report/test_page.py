"""The report as one page: what it says, to whom, and that no text becomes markup."""

import base64
import functools
import gzip
import re
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from nas.report import choices, progress
from nas.report.design import design
from nas.report.page import render, write_report
from nas.report.theme import plotly_js
from nas.search.importances import importances
from nas.search.run import run_search
from nas.statistics import wilson_interval
from nas.study.records import Outcome, StudyRecord, TrialRecord
from tests.kits.pages import parsed
from tests.kits.places import ROOT
from tests.kits.records import EVIL, SETTINGS, mixed, studies, study, trial
from tests.kits.studies import TINY_SPACE, RequestOf


@functools.cache
def mixed_page() -> str:
    """The report of that study."""
    return render(mixed())


EDGES = {
    "no trials": study(),
    "one trial": study(trial(0, accuracy=0.5)),
    "all over budget": study(*(trial(i, Outcome.OVER_BUDGET) for i in range(3))),
    "all failed": study(*(trial(i, Outcome.FAILED, reason="no disk") for i in range(3))),
    "all stopped early": study(*(trial(i, Outcome.STOPPED_EARLY, 0.4, epochs=1) for i in range(3))),
    "queued": study(TrialRecord(number=0, outcome=None)),
    "trained, nothing else known": study(TrialRecord(number=0, outcome=Outcome.TRAINED)),
    "accuracy without a design": study(
        TrialRecord(number=0, outcome=Outcome.TRAINED, val_accuracy=1.0)
    ),
    "no validation images": replace(
        study(trial(0, accuracy=0.5)), settings=replace(SETTINGS, validation_images=0)
    ),
    "half of a surrogate pair": replace(study(), command="nas search --data-dir \udcff"),
    "mixed": mixed(),
}


class TestPage:
    @pytest.mark.parametrize("record", EDGES.values(), ids=EDGES.keys())
    def test_any_study_is_a_page(self, record: StudyRecord, tmp_path: Path) -> None:
        page = write_report(record, tmp_path).read_text(encoding="utf-8")
        seen = parsed(page)
        assert page.startswith("<!DOCTYPE html>")
        assert not re.search(r"\b(nan|None|NaN|<NA>)\b", seen.text)
        assert page.count(plotly_js()) == bool(record.trials)
        trained = [t for t in record.trials if t.outcome is Outcome.TRAINED]
        compared = [t for t in record.trials if t.val_accuracy is not None and t.parameters]
        expected = {
            "Verdict": True,
            "Leaderboard": bool(trained),
            "Trade-off": bool(compared),
            "Curves": any(t.curve or t.val_accuracy is not None for t in record.trials),
            "Mistakes": False,  # no test image was read
            "Design": any(t.architecture for t in trained),
            "Appendix": True,
        }
        assert seen.headings(2) == [heading for heading, is_there in expected.items() if is_there]

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("no trials", "The study has no trials yet."),
            ("all over budget", "No design was trained. 3 trials: 3 over the budget."),
            ("all failed", "No design was trained. 3 trials: 3 failed."),
            ("all stopped early", "No design was trained to the last epoch yet (3 stopped early)"),
            ("queued", "1 trial: 1 queued."),
            ("one trial", "it comes from one run with one seed"),
        ],
    )
    def test_says_so_in_words(self, name: str, sentence: str) -> None:
        assert sentence in parsed(render(EDGES[name])).text

    def test_every_table_has_a_caption_and_its_rows_a_head(self) -> None:
        seen = parsed(mixed_page())
        bodies = [name for name in seen.names if name in ("table", "caption")]
        facts = sum(tag == ("table", {"class": "facts"}) for tag in seen.tags)
        assert bodies.count("table") - facts == bodies.count("caption") > 5
        pairs = zip(seen.tags, seen.tags[1:], strict=False)
        inside = [after for before, after in pairs if before[0] == "tr"]
        assert {name for name, _ in inside} == {"th"}

    def test_numbers_are_those_of_the_record(self) -> None:
        record = mixed()
        best = record.incumbent
        assert best is not None
        assert best.parameters is not None
        assert best.mult_adds is not None
        seen = parsed(mixed_page())
        interval = wilson_interval(0.9123, 5_000)
        for text in (
            "validation accuracy of 91.23%",
            f"(95% interval {interval.low:.2%} to {interval.high:.2%})",
            f"{best.parameters:,} parameters",
            f"{best.mult_adds / 1e6:.1f} M mult-adds",
            "at most 5,000,000 parameters",
            "4 were trained",
            "best of 3 designs",
            "reads no test image: the design's accuracy on unseen images",
            "30,000 images/s",
            "3 min 20 s",  # 3 whole runs of 60 s and one of 20 s
            "nas search --budget 5e6 --trials 50",
            "NVIDIA H200",
        ):
            assert text in seen.text
        for outcome, number in record.outcomes.items():
            assert [outcome.replace("_", " "), str(number)] in [row[:2] for row in seen.rows]
        assert ["failed", "disk is full", "2", "7, 8"] in seen.rows
        assert ["torch", "2.13.0"] in seen.rows
        assert ["batch size", "128"] in seen.rows

    def test_notes_are_shown_before_all_else(self) -> None:
        text = parsed(render(study(notes=("These are the digits.",)))).text
        assert text.index("These are the digits.") < text.index("The most accurate")

    def test_needs_no_network(self) -> None:
        page = mixed_page()
        assert page.count(plotly_js()) == 1
        assert page.count("<script>") == 3
        seen = parsed(page)
        links = [v for _, attrs in seen.tags for k, v in attrs.items() if k in ("src", "href")]
        assert [link for link in links if not (link or "").startswith("#")] == ["data:,"]
        ids = {attrs["id"] for _, attrs in seen.tags if "id" in attrs}
        assert {(link or "")[1:] for link in links if link != "data:,"} <= ids
        assert "http" not in page.replace(plotly_js(), "").replace("http-equiv", "")
        assert "default-src 'none'" in page
        assert not re.search(r"@import|url\(", page.replace(plotly_js(), ""))

    def test_can_be_read_by_all(self) -> None:
        seen = parsed(mixed_page())
        assert ("html", {"lang": "en"}) in seen.tags
        assert seen.names.count("h1") == 1
        plots = [attrs for _, attrs in seen.tags if attrs.get("class") == "plot"]
        assert len(plots) == 5
        assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
        ids = [attrs["id"] for _, attrs in seen.tags if "id" in attrs]
        assert len(ids) == len(set(ids))

    def test_a_study_of_fifty_is_small(self) -> None:
        fifty = [trial(i, accuracy=0.5 + i / 200, epochs=200) for i in range(50)]
        long = replace(SETTINGS, recipe={"epochs": 200})
        assert len(render(replace(study(*fifty), settings=long)).encode()) < 3_000_000

    def test_the_drawing_library_is_plotlys(self) -> None:
        assert gzip.decompress(base64.b64decode(plotly_js())).decode() == get_plotlyjs()


class TestEscaping:
    @staticmethod
    def with_text(text: str) -> StudyRecord:
        record = study(trial(0, Outcome.FAILED, reason=text), name=text, notes=(text,))
        return replace(
            record,
            command=text,
            versions={text: text},
            settings=replace(
                SETTINGS,
                dataset=text,
                dataset_digest=text,
                recipe={"epochs": 1, "optimizer": text},
                space={"blocks": text},
            ),
        )

    @settings(max_examples=20)
    @given(st.text(min_size=1))
    @example(EVIL)
    @example("</script>")
    @example("<!--")
    @example("'\"><b>")
    def test_no_text_becomes_markup(self, text: str) -> None:
        assert parsed(render(self.with_text(text))).names == self.plain()

    @staticmethod
    @functools.cache
    def plain() -> list[str]:
        """The tags of a page with a harmless text."""
        return parsed(render(TestEscaping.with_text("x"))).names

    def test_in_a_page_with_figures(self) -> None:
        evil = self.with_text(EVIL)
        told = replace(trial(1, accuracy=0.5), device=EVIL, worker=EVIL, reason=EVIL)
        page = render(replace(evil, trials=(*evil.trials, told)))
        assert "<script>alert" not in page
        assert "<img" not in page.replace(plotly_js(), "")
        assert page.count("</script") == page.count("<script>") == 3
        assert EVIL in parsed(page).text


def test_package_is_light() -> None:
    code = "import sys, nas.report; assert not {'pandas', 'plotly', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


class TestAgainstTheDatabase:
    """A small real search, read with SQL and with Optuna alone."""

    @pytest.fixture(scope="class")
    @staticmethod
    def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyRecord, Path]:
        folder = tmp_path_factory.mktemp("searched")
        (folder / "tiny.toml").write_text(TINY_SPACE)
        request = RequestOf(folder, folder / "tiny.toml")
        result = run_search(
            request(max_parameters=2_000, trials=5, pruner="none", sampler="random")
        )
        assert result.location.path is not None
        return result.study, result.location.path

    def test_numbers_are_those_of_sql(self, searched: tuple[StudyRecord, Path]) -> None:
        record, path = searched
        with sqlite3.connect(path) as db:
            outcomes = dict(
                db.execute(
                    "SELECT json_extract(value_json, '$'), count(*) FROM trial_user_attributes "
                    "WHERE key = 'outcome' GROUP BY 1"
                )
            )
            (trials,) = db.execute("SELECT count(*) FROM trials").fetchone()
            (seconds,) = db.execute(
                "SELECT sum(value_json) FROM trial_user_attributes WHERE key = 'seconds'"
            ).fetchone()
            values = dict(
                db.execute(
                    "SELECT number, value FROM trials JOIN trial_values USING (trial_id) "
                    "WHERE state = 'COMPLETE'"
                )
            )
        db.close()
        steps = progress.funnel_table(record)
        found = dict(zip(steps["step"], steps["trials"], strict=True))
        assert found.pop("proposed") == trials
        assert {name.replace(" ", "_"): n for name, n in found.items()} == outcomes
        over_time = progress.progress_table(record)
        assert over_time["worked"].iloc[-1] == pytest.approx(seconds)
        assert over_time["incumbent"].iloc[-1] == max(values.values())
        chosen = choices.choices_table(record)
        assert dict(zip(chosen["number"], chosen["val_accuracy"], strict=True)) == values

    @pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_importances_are_optunas(self, searched: tuple[StudyRecord, Path]) -> None:
        record, path = searched
        loaded = optuna.load_study(study_name=record.name, storage=f"sqlite:///{path}")
        expected = optuna.importance.get_param_importances(loaded)
        assert {i.name: pytest.approx(i.share) for i in importances(record).choices} == expected


@settings(max_examples=10)
@given(studies())
def test_any_study_has_all_sections(record: StudyRecord) -> None:
    for make in (
        progress.funnel,
        progress.over_time,
        choices.what_mattered,
        choices.slices,
    ):
        assert not re.search(r"\b(nan|NaN|<NA>)\b", make(record).content)
    design(record, None)
