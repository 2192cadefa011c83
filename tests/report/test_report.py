import functools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas.counting import COSTS, Cost, count
from nas.report import curves, overview, progress, sizes, tables, trials, words
from nas.report import settings as page_settings
from nas.report.document import slug, write_page
from nas.report.page import render, write_report
from nas.report.settings import choices_in_words
from nas.report.theme import figure_json, plotly_js
from nas.space import Limits
from nas.statistics import wilson_interval
from nas.study.records import Outcome, StudyRecord, TrialRecord
from nas.study.settings import differences, settings_to_json
from nas.text import duration, millions
from tests.kits.pages import parsed
from tests.kits.places import ROOT
from tests.kits.records import EPOCHS, EVIL, IMAGE, SETTINGS, design, mixed, studies, study, trial


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
    "running": study(TrialRecord(number=0, outcome=None)),
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


class TestTables:
    @given(studies())
    def test_one_row_per_trial(self, record: StudyRecord) -> None:
        table = trials.trials_table(record.trials)
        assert table["number"].tolist() == [t.number for t in record.trials]
        assert len(curves.curve_table(record)) == sum(len(t.curve) for t in record.trials)

    @given(studies())
    def test_incumbent_only_gets_better_and_ends_at_the_best(self, record: StudyRecord) -> None:
        table = progress.incumbent_table(record)
        accuracies = table["val_accuracy"].tolist()
        assert len(table) == record.outcomes[Outcome.TRAINED]
        assert accuracies == sorted(accuracies)
        if record.incumbent is not None:
            assert table["incumbent"].iloc[-1] == record.incumbent.number

    @given(studies(), st.integers(0, 12))
    def test_ranking_is_that_of_the_record(self, record: StudyRecord, top: int) -> None:
        table = trials.ranking_table(record, top)
        assert table["number"].tolist() == [t.number for t in record.ranking[:top]]
        assert table["rank"].tolist() == list(range(1, len(table) + 1))

    @pytest.mark.parametrize("record", [study(), mixed()], ids=["empty", "mixed"])
    def test_types_do_not_depend_on_the_rows(self, record: StudyRecord) -> None:
        for make in (
            lambda record: trials.trials_table(record.trials),
            trials.ranking_table,
            progress.incumbent_table,
            trials.reason_table,
            curves.curve_table,
        ):
            assert make(record).dtypes.tolist() == make(mixed()).dtypes.tolist()

    def test_values_come_through(self) -> None:
        row = trials.trials_table(mixed().trials).iloc[4]
        cost = count(design(20), IMAGE)
        assert row["outcome"] == "trained"
        assert row["design"] == str(design(20))
        assert (row["parameters"], row["mult_adds"]) == (cost.parameters, cost.mult_adds)
        assert (row["val_accuracy"], row["epochs"], row["seconds"]) == (0.9123, EPOCHS, 60.0)
        assert pd.isna(row["reason"])

    def test_reasons_are_grouped(self) -> None:
        first = trials.reason_table(mixed()).iloc[0]
        assert (first["reason"], first["trials"], first["numbers"]) == ("disk is full", 2, "7, 8")

    def test_curves_by_epoch(self) -> None:
        wide = curves.curves_by_epoch(curves.curve_table(mixed()))
        assert wide.columns.tolist() == ["number", *map(str, range(1, EPOCHS + 1))]
        assert wide["number"].tolist() == [1, 2, 4, 9, 10]
        assert pd.isna(wide["3"].iloc[1])


class TestFigures:
    def test_history(self) -> None:
        record = mixed()
        figure = progress.history_figure(
            trials.trials_table(record.trials), progress.incumbent_table(record)
        )
        stopped, trained, incumbent = figure.data
        assert list(stopped.x) == [2]
        assert list(trained.x) == [1, 4, 9]
        assert list(incumbent.y) == [0.81, 0.9123, 0.9123, 0.9123]
        assert incumbent.line.shape == "hv"
        assert str(design(20)).split(" F")[0] in trained.hovertext[1]

    def test_accuracy_by_parameters(self) -> None:
        table = trials.trials_table(mixed().trials)
        figure = sizes.size_figure(table, 5_000_000, 4)
        assert figure.data[2].x[0] == count(design(20), IMAGE).parameters
        assert figure.layout.shapes[0].x0 == 5_000_000
        assert figure.layout.xaxis.type == "log"
        near = sizes.size_figure(table, 500_000, None)
        assert near.layout.xaxis.type == "linear"
        assert len(near.data) == 2

    def test_learning_curves(self) -> None:
        figure = curves.curves_figure(curves.curve_table(mixed()), 4)
        legend = [trace.name for trace in figure.data if trace.showlegend]
        assert legend == ["not finished", "stopped early", "trained", "incumbent"]
        assert sum(trace.mode == "lines" for trace in figure.data) == 5

    def test_values_are_shares_and_shown_as_percent(self) -> None:
        record = mixed()
        for figure in (
            progress.history_figure(
                trials.trials_table(record.trials), progress.incumbent_table(record)
            ),
            sizes.size_figure(trials.trials_table(record.trials), 10**6, None),
            curves.curves_figure(curves.curve_table(record), None),
        ):
            assert figure.layout.yaxis.tickformat.endswith("%")
            assert all(0 <= y <= 1 for trace in figure.data for y in trace.y)

    def test_json_is_safe_in_a_script(self) -> None:
        table = trials.trials_table(mixed().trials)
        table["design"] = EVIL
        figure = progress.history_figure(table, progress.incumbent_table(mixed()))
        text = figure_json(figure)
        assert not set("<>") & set(text)
        hover = json.loads(text)["data"][1]["hovertext"][0]
        assert "&lt;script&gt;" in hover
        assert "<script" not in hover


class TestWords:
    def test_design(self) -> None:
        assert words.design_in_words(design()) == (
            "3 stages (N) of 2, 1 and 1 blocks (B) with 16, 32 and 64 channels (C); 3x3, 3x3 and "
            "5x5 kernels (F); projection shortcuts with 1x1 and 3x3 kernels (K) in stages 2 and 3; "
            "average pool 8x8 (P)"
        )

    @pytest.mark.parametrize(
        ("seconds", "shown"),
        [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (9.97, "10 s"),
            (59.97, "1 min"),
            (754, "12 min 34 s"),
            (4_800, "1 h 20 min"),
            (4_000_000, "46 days 7 h"),
        ],
    )
    def test_duration(self, seconds: float, shown: str) -> None:
        assert duration(seconds) == shown

    @pytest.mark.parametrize(
        ("value", "shown"), [(555_631_626, "555.6 M"), (1_234_000, "1.23 M"), (12_345, "0.012 M")]
    )
    def test_millions(self, value: int, shown: str) -> None:
        assert millions(value) == shown

    def test_choices(self) -> None:
        assert choices_in_words([3, 4]) == "3 or 4"
        assert choices_in_words([[1, 2, 3]] * 2) == "1, 2 or 3 in every stage"
        assert choices_in_words([list(range(16, 129, 16)), [8]]) == (
            "stage 1: 16 to 128 in steps of 16; stage 2: 8"
        )

    def test_the_ranking_counts_designs_that_hardly_differ_from_the_best(self) -> None:
        # On 5,000 images 1.2 points are more than the difference leaves to luck; intervals overlap.
        record = study(*(trial(i, accuracy=a) for i, a in enumerate((0.94, 0.935, 0.928))))
        assert "2 designs, the best included, are too close" in trials.ranking_caption(record)
        record = study(trial(0, accuracy=0.94), trial(1, accuracy=0.928))
        assert "every other design's difference" in trials.ranking_caption(record)

    @pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
    def test_every_limit_is_told(self, cost: Cost) -> None:
        limits = Limits(**{cost.maximum: 7_000_000})
        record = replace(study(trial(0, accuracy=0.9)), settings=replace(SETTINGS, limits=limits))
        value = getattr(record.trials[0], cost.name)
        assert f"at most {cost.exactly(7_000_000)}. Designs" in overview.asked(record)
        assert cost.about(value) in overview.found(record)
        cards = {card.label: card for card in overview.cards(record)}
        card = cards[f"{cost.units.capitalize()} of trial 0"]
        assert card.value == cost.rounded(value)
        assert card.detail == f"{value / 7_000_000:.1%} of {cost.rounded(7_000_000)}"
        assert settings_to_json(record.settings)["limits"][cost.maximum] == 7_000_000
        unlimited = replace(SETTINGS, limits=Limits())
        said = f"{cost.limit} ({cost.option}): the study has none, this search 7,000,000"
        assert differences(unlimited, record.settings) == [said]
        shown = page_settings.settings(record).content
        assert cost.limit.capitalize() in shown
        assert cost.exactly(7_000_000) in shown

    def test_the_limit_that_nothing_kept_is_named(self) -> None:
        over = study(trial(0, Outcome.OVER_BUDGET))
        limits = Limits(max_parameters=5_000_000, max_mult_adds=1_000)
        told = overview.nothing_found(replace(over, settings=replace(SETTINGS, limits=limits)))
        least = f"{millions(over.trials[0].mult_adds)} mult-adds"
        assert f"within the budget has {least}; the limit of mult-adds is 0.001 M." in told
        assert "the budget is" not in told
        limits = Limits(max_parameters=1_000, max_mult_adds=1_000)
        told = overview.nothing_found(replace(over, settings=replace(SETTINGS, limits=limits)))
        assert "the budget is 1,000." in told

    def test_what_is_no_number_is_not_the_best(self) -> None:
        record = study(trial(0, accuracy=float("nan")), trial(1, accuracy=0.5))
        assert [t.number for t in record.ranking] == [1, 0]

    def test_of_equals_the_earlier_is_first_as_the_ranking_says(self) -> None:
        record = study(replace(trial(0, accuracy=0.9), parameters=10**6), trial(1, accuracy=0.9))
        assert [t.number for t in record.ranking] == [0, 1]
        assert "of equals, the earlier" in trials.ranking_caption(record)

    def test_epochs_saved(self) -> None:
        assert overview.epochs_saved(mixed()) == EPOCHS - 2
        assert "Stopping early saved 4 of 24 epochs (17%)." in overview.cost(mixed())

    def test_its_tables_hold_nothing_that_utf8_cannot(self) -> None:
        made = tables.frame_of([{"text": "a \udcff", "number": 1}, {"text": None, "number": None}])
        assert made["text"][0] == r"a \udcff"
        assert made["number"][0] == 1
        assert made["text"].isna().tolist() == [False, True]


class TestPage:
    @pytest.mark.parametrize("record", EDGES.values(), ids=EDGES.keys())
    def test_any_study_is_a_page(self, record: StudyRecord, tmp_path: Path) -> None:
        page = write_report(record, tmp_path).read_text(encoding="utf-8")
        seen = parsed(page)
        assert page.startswith("<!DOCTYPE html>")
        assert not re.search(r"\b(nan|None|NaN|<NA>)\b", seen.text)
        assert page.count(plotly_js()) == bool(record.trials)
        compared = any(
            t.outcome is Outcome.TRAINED and t.val_accuracy is not None and t.architecture
            for t in record.trials
        )
        assert ("Nothing to draw" in seen.text) != compared

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("no trials", "the study has no trials"),
            ("all over budget", "no design was trained. 3 trials: 3 over the budget."),
            ("all failed", "no design was trained. 3 trials: 3 failed."),
            ("all stopped early", "no design was trained to the last epoch (3 stopped early)"),
            ("running", "1 unfinished (running, or ended without saying)"),
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
            "reads no test image: what the design does",
            "30,000 images/s",
            "3 min 20 s",  # 3 whole runs of 60 s and one of 20 s
            "nas search --budget 5e6 --trials 50",
            "NVIDIA H200",
        ):
            assert text in seen.text
        rows = [
            [
                str(rank),
                f"{t.number}",
                str(t.architecture),
                f"{t.parameters:,}",
                f"{t.val_accuracy:.2%}",
            ]
            for rank, t in enumerate(record.ranking, start=1)
        ]
        shown = [[*row[:4], row[5]] for row in seen.rows if len(row) == 6 and row[1].isdigit()]
        assert shown == rows
        for outcome, number in record.outcomes.items():
            assert [outcome.replace("_", " "), str(number)] in [row[:2] for row in seen.rows]
        assert ["failed", "disk is full", "2", "7, 8"] in seen.rows
        assert ["torch", "2.13.0"] in seen.rows
        assert ["batch size", "128"] in seen.rows

    def test_notes_are_shown_before_all_else(self) -> None:
        text = parsed(render(study(notes=("These are the digits.",)))).text
        assert text.index("These are the digits.") < text.index("Designs trained")

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
        assert len(plots) == 6
        assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
        ids = [attrs["id"] for _, attrs in seen.tags if "id" in attrs]
        assert len(ids) == len(set(ids))

    def test_a_study_of_fifty_is_small(self) -> None:
        fifty = [trial(i, accuracy=0.5 + i / 200, epochs=200) for i in range(50)]
        long = replace(SETTINGS, recipe={"epochs": 200})
        assert len(render(replace(study(*fifty), settings=long)).encode()) < 6_000_000


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


class TestFile:
    @given(st.text(max_size=300))
    def test_slug_is_a_plain_file_name(self, name: str) -> None:
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", slug(name))

    def test_no_two_studies_share_a_file(self, tmp_path: Path) -> None:
        names = [
            "a-b",
            "a/b",
            "a b",
            "\u043f\u0442",
            "\u0441\u043e",
            "x" * 200,
            "x" * 201,
            "A--vs--B",
        ]
        paths = {write_page("", tmp_path, name) for name in names}
        paths |= {write_page("", tmp_path, *pair) for pair in (("A", "B"), ("B", "A"))}
        paths.add(write_page("", tmp_path, "y" * 300, "z" * 300))
        assert len(paths) == len(names) + 3

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("cifar10-5M", "cifar10-5M.html"),
            ("a/b", "a-b-c14cddc0.html"),
            ("../../etc", "-..-etc-74ccf3c5.html"),
            ("<script>", "-script--5b63e5b2.html"),
            ("..", "study-5ec1f7e7.html"),
            ("", "study-e3b0c442.html"),
        ],
    )
    def test_lands_in_the_directory(self, name: str, file: str, tmp_path: Path) -> None:
        reports = tmp_path / "new" / "reports"
        assert write_report(study(name=name), reports) == reports / file
        assert [path.name for path in reports.iterdir()] == [file]
        assert [path.name for path in tmp_path.iterdir()] == ["new"]

    @pytest.mark.parametrize("broken", ["os.replace", "os.fsync"])
    def test_a_failing_write_leaves_the_old_report(
        self, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_report(study(), tmp_path)
        before = path.read_bytes()

        def fail(*_: object) -> None:
            raise OSError("disk is full")

        monkeypatch.setattr(broken, fail)
        with pytest.raises(OSError, match="disk is full"):
            write_report(mixed(), tmp_path)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_is_as_readable_as_any_new_file(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.touch()
        assert write_report(study(), tmp_path).stat().st_mode == other.stat().st_mode


def test_package_is_light() -> None:
    code = "import sys, nas.report; assert not {'pandas', 'plotly', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
