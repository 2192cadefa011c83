"""The data behind the report's figures and tables, and the report of a tested network."""

import json
import random
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from PIL import Image

from nas.architecture import Architecture
from nas.final.records import (
    ClassResult,
    FinalRecord,
    Mistake,
)
from nas.final.references import LITERATURE, PUBLISHED
from nas.report import choices, design, progress, sizes, tested
from nas.report.compare import render_comparison
from nas.report.page import render
from nas.report.trials import measured, trials_table
from nas.report.words import TRAINED
from nas.search.importances import Importances, importances, letter
from nas.search.run import run_search
from nas.study.records import Outcome, StudyRecord
from tests.kits.pages import parsed
from tests.kits.records import (
    EVIL,
    SETTINGS,
    final_record,
    mixed,
    read_record,
    studies,
    study,
    trial,
)
from tests.kits.studies import RequestOf

GREYS = {"rgba(134,142,153,.4)"}


class TestFunnel:
    @given(studies())
    def test_its_steps_add_up_to_the_trials(self, record: StudyRecord) -> None:
        steps = progress.funnel_table(record)
        assert steps["trials"].iloc[0] == len(record.trials)
        assert steps["trials"].iloc[1:].sum() == len(record.trials)
        trained = sum(t.outcome is Outcome.TRAINED for t in record.trials)
        assert steps.iloc[-1].to_dict()["trials"] == trained

    def test_what_was_interrupted_has_not_failed(self) -> None:
        trials = [trial(0, Outcome.FAILED, reason="interrupted"), trial(1, accuracy=0.5)]
        record = study(*trials)
        steps = progress.funnel_table(record)
        assert dict(zip(steps["step"], steps["trials"], strict=True)) == {
            "proposed": 2,
            "interrupted": 1,
            "trained": 1,
        }
        page = render(record)
        assert "1 interrupted and queued again" in page
        assert "1 failed" not in page

    def test_each_bar_begins_where_the_next_ends(self) -> None:
        steps = progress.funnel_table(mixed())
        assert dict(zip(steps["step"], steps["trials"], strict=True)) == {
            "proposed": 12,
            "over budget": 1,
            "duplicate": 1,
            "failed": 2,
            "out of memory": 1,
            "diverged": 1,
            "unfinished": 2,
            "stopped early": 1,
            "trained": 3,
        }
        (bar,) = progress.funnel_figure(steps).data
        ends = [base + x for base, x in zip(bar.base, bar.x, strict=True)]
        assert (ends[0], ends[1], bar.base[-1]) == (12, 12, 0)
        assert list(bar.base[1:-1]) == ends[2:]


class TestOverTime:
    def test_rises_and_the_last_design(self) -> None:
        table = progress.progress_table(mixed())
        assert table["number"].tolist() == [1, 4, 9]
        assert table["incumbent"].tolist() == [0.81, 0.9123, 0.9123]
        hour = 3600.0
        assert table["elapsed"].tolist() == [60.0, 3 * hour + 60, 8 * hour + 60]
        assert table["worked"].tolist() == [60.0, 60 + 20 + 60, 60 + 20 + 60 + 60]

    def test_units_fit_the_span(self) -> None:
        figure = progress.over_time_figure(progress.progress_table(mixed()))
        clock, work = figure.data
        assert clock.x[-1] == pytest.approx(8 + 1 / 60)  # hours
        assert work.x[-1] == pytest.approx(200 / 60)  # minutes
        assert "hours since" in figure.layout.xaxis.title.text
        assert "minutes of training" in figure.layout.xaxis2.title.text

    def test_without_times_there_is_nothing_to_draw(self) -> None:
        timeless = [replace(t, started=None, finished=None) for t in mixed().trials]
        assert progress.progress_table(study(*timeless)).empty


class TestChoices:
    def test_one_number_per_letter(self) -> None:
        row = choices.choices_table(study(trial(0, accuracy=0.5))).iloc[0]
        assert [row[name] for name in "NBCFKP"] == [3, 4, 64, 5, 3, 8]

    def test_only_designs_trained_to_the_end(self) -> None:
        assert choices.choices_table(mixed())["number"].tolist() == [1, 4, 9]

    def test_thinning_keeps_the_best(self) -> None:
        rng = random.Random(0)
        many = pd.DataFrame({"val_accuracy": [rng.random() for _ in range(1_000)]})
        few = choices.thinned(many, 100)
        assert len(few) == 100
        assert set(many["val_accuracy"].nlargest(20)) <= set(few["val_accuracy"])
        assert few.index.is_monotonic_increasing
        assert few.index[-1] > 900
        assert choices.thinned(few, 100) is few

    def test_slices_show_every_design_and_medians(self) -> None:
        trials = [trial(i, accuracy=0.5 + i / 100) for i in range(4)]
        figure = choices.slices_figure(choices.choices_table(study(*trials)))
        dots = {trace.name: trace for trace in figure.data}
        assert dots["C"].x == (64, 68, 72, 76)
        assert dots["C"].y == (0.5, 0.51, 0.52, 0.53)
        assert (dots["P, median"].x, dots["P, median"].y) == ((8,), (pytest.approx(0.515),))
        assert "C, median" not in dots  # one design of each

    def test_parallel_lines(self) -> None:
        trials = [trial(i, accuracy=0.5 + i / 100) for i in range(20)]
        figure = choices.parallel_figure(choices.choices_table(study(*trials)))
        lines = {trace.name: trace for trace in figure.data}
        assert {name: line.y.count(None) for name, line in lines.items()} == {
            "lower half": 10,
            "upper half": 8,
            "best tenth": 2,
        }
        first = lines["lower half"].y[:8]
        assert (first[2], first[6], first[7]) == (0, 0, 0)  # narrowest, smallest, worst
        assert lines["best tenth"].y[9 + 7] == 1

    def test_a_design_without_projection_has_a_gap(self) -> None:
        plain = trial(0, accuracy=0.5)
        one_stage = Architecture(
            blocks=(1,), channels=(8,), kernels=(3,), shortcut_kernels=(1,), pool=8
        )
        chosen = choices.choices_table(study(replace(plain, architecture=one_stage)))
        assert choices.parallel_figure(chosen).data[0].y[4] is None


class TestImportances:
    @staticmethod
    def of(accuracies: list[float]) -> StudyRecord:
        """Designs of the default space whose first stage decides nothing, and C does."""
        space = {
            "stages": [3],
            "blocks": [[1, 2]] * 3,
            "channels": [[8, 16, 24, 32]] * 3,
            "kernels": [[3, 5]] * 3,
            "shortcut_kernels": [[1, 3]] * 3,
            "pool": [8],
        }
        rng = random.Random(3)
        trials = []
        for i, noise in enumerate(accuracies):
            base = trial(i, accuracy=0.5)
            assert base.architecture is not None
            channels = tuple(rng.choice((8, 16, 24, 32)) for _ in range(3))
            other = replace(
                base.architecture,
                blocks=tuple(rng.choice((1, 2)) for _ in range(3)),
                channels=channels,
                kernels=tuple(rng.choice((3, 5)) for _ in range(3)),
                shortcut_kernels=(1, *(rng.choice((1, 3)) for _ in range(2))),
                stem_channels=channels[0],
            )
            accuracy = 0.5 + channels[2] / 100 + noise
            trials.append(replace(base, architecture=other, val_accuracy=accuracy))
        return replace(study(*trials), settings=replace(SETTINGS, space=space))

    def test_what_decides_is_found_and_chance_is_not(self) -> None:
        rng = random.Random(1)
        found = importances(self.of([rng.gauss(0, 0.005) for _ in range(150)]))
        assert found.designs == 150
        assert found.letters[0].name == "C"
        assert found.choices[0].name == "channels_3"
        assert found.letters[0].is_beyond_chance
        assert sum(i.share for i in found.choices) == pytest.approx(1)
        assert sum(i.share for i in found.letters) == pytest.approx(1)
        assert len({i.chance for i in found.letters}) == len({i.chance for i in found.choices}) == 1

    def test_luck_alone_seldom_passes_the_mark(self) -> None:
        rng = random.Random(5)
        passed = [
            any(i.is_beyond_chance for i in importances(self.of(noise)).letters)
            for noise in ([100 * rng.random() for _ in range(20)] for _ in range(12))
        ]
        assert sum(passed) <= 3  # of 12, where each passes in 1 of 20: more in 1 of 440

    def test_few_designs_say_nothing(self) -> None:
        plot = choices.what_mattered(self.of([0.0] * 19))
        assert plot.json is None
        assert "19 designs" in plot.content
        assert "cannot be told" in plot.content

    def test_between_few_and_enough_all_is_grey(self) -> None:
        record = self.of([0.0] * 30)
        plot = choices.what_mattered(record)
        assert "30 designs are few" in plot.content
        assert "Beyond it:" not in plot.content
        mattered = choices.importance_table(importances(record))
        bars = choices.importances_figure(mattered, weak=True).data[0]
        assert set(bars.marker.color) == GREYS
        strong = choices.importances_figure(mattered, weak=False).data[0]
        assert set(strong.marker.color) - GREYS
        assert bars.x == strong.x

    def test_designs_outside_the_space_do_not_count(self) -> None:
        outside = [trial(number, accuracy=0.5) for number in (1, 2, 3)]  # 17 to 19 channels
        assert importances(study(*outside)) == Importances(0, (), ())

    def test_a_space_of_another_version_is_no_error(self) -> None:
        record = replace(mixed(), settings=replace(SETTINGS, space={"blocks": "?"}))
        assert importances(record).choices == ()

    def test_letters(self) -> None:
        names = ("stages", "blocks_1", "channels_2", "kernels_3", "shortcut_kernels_2", "pool")
        assert "".join(map(letter, names)) == "NBCFKP"
        assert letter("pool_3_stages") == "P"
        assert letter("batch_size") == "batch_size"


class TestReferences:
    def test_published_and_measured_never_look_alike(self) -> None:
        references = sizes.reference_table(mixed(), final_record())
        trials = figures_input(mixed())
        figure = sizes.size_figure(trials, 5_000_000, 4, None, references)
        traces = {trace.name: trace for trace in figure.data}
        published, measured = traces[sizes.PUBLISHED_KIND], traces[sizes.MEASURED_KIND]
        assert published.marker.symbol == "square-open"
        assert measured.marker.symbol == "square"
        assert published.marker.color != measured.marker.color
        assert published.error_y.array is None
        assert measured.error_y.array == pytest.approx((0.01, 0.01))
        trained = traces[TRAINED]
        assert trained.marker.symbol not in ("square", "square-open")
        assert dict(zip(measured.x, measured.y, strict=True)) == {
            272_474: 0.91,
            4_903_242: 0.93,
        }
        low, high = figure.layout.yaxis.range
        assert low < 0.5
        assert high > 0.9743

    def test_each_is_named_with_its_source(self) -> None:
        references = sizes.reference_table(mixed(), None)
        assert set(references["name"]) == {*PUBLISHED, *LITERATURE}
        assert references["source"].notna().all()
        assert references["mark"].is_unique
        over = set(references[~references["fits"]]["name"])
        assert over == {"resnet18", "resnet18-narrow-stem"}
        text = parsed(render(mixed())).text
        assert all(known.source in text for known in (PUBLISHED | LITERATURE).values())  # type: ignore[operator]

    def test_what_is_published_for_another_dataset_is_left_out(self) -> None:
        other = replace(mixed(), settings=replace(SETTINGS, dataset="digits"))
        assert sizes.reference_table(other, None).empty
        assert "Reference networks" not in render(other)
        assert len(sizes.reference_table(other, final_record())) == 2

    def test_literature_is_within_five_million(self) -> None:
        assert all((known.parameters or 0) <= 5_000_000 for known in LITERATURE.values())


def figures_input(record: StudyRecord) -> pd.DataFrame:
    return measured(trials_table(record.trials))


class TestTestedNetwork:
    def test_confusion_shows_right_and_wrong_apart(self) -> None:
        right, wrong = tested.confusion_figure(((8, 2, 0), (0, 10, 0), (1, 0, 3)), "abc").data
        assert list(right.z) == [[0.8, None, None], [None, 1.0, None], [None, None, 0.75]]
        assert list(wrong.z) == [[None, 0.2, None], [None, None, None], [0.25, None, None]]
        assert list(wrong.text) == [["8", "2", ""], ["", "10", ""], ["1", "", "3"]]

    def test_many_classes_lose_their_labels(self) -> None:
        few = tested.confusion_figure([[1] * 20] * 20, [f"c{i}" for i in range(20)])
        assert len(few.layout.xaxis.ticktext) == 20
        many = tested.confusion_figure([[1] * 21] * 21, [f"c{i}" for i in range(21)])
        assert many.layout.xaxis.showticklabels is False
        assert all(trace.texttemplate is None for trace in many.data)

    def test_confused_most_often_first(self) -> None:
        exported = replace(final_record().exported, confusion=((8, 2, 0), (0, 5, 5), (1, 0, 3)))
        record = final_record(classes=("a", "b", "c"), exported=exported)
        pairs = tested.confused_table(record, 2)
        assert pairs.to_dict("records") == [
            {"label": "b", "predicted": "c", "images": 5, "share": 0.5},
            {"label": "a", "predicted": "b", "images": 2, "share": 0.2},
        ]

    def test_the_worst_class_is_first(self) -> None:
        results = (("a", 10, 9), ("b", 10, 2), ("c", 0, 0))
        per_class = tuple(ClassResult(name=n, images=i, correct=c) for n, i, c in results)
        classes = tested.class_table(replace(final_record().exported, per_class=per_class))
        assert classes["name"].tolist() == ["b", "a", "c"]
        assert classes["accuracy"].tolist()[:2] == [0.2, 0.9]
        assert classes["accuracy"].isna().tolist() == [False, False, True]

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The folder of an exported model, with the picture of its one mistake."""
        folder = tmp_path / "final"
        (folder / "mistakes").mkdir(parents=True)
        Image.new("L", (8, 8), 200).save(folder / "mistakes" / "0.png")
        (folder / "metrics.json").write_text(json.dumps(final_record().to_dict()))
        return folder

    @staticmethod
    def images(record: FinalRecord, folder: Path | None) -> list[dict[str, str | None]]:
        seen = parsed(render(read_record(record), folder))
        return [attrs for name, attrs in seen.tags if name == "img"]

    def test_mistakes_are_pictures_in_the_page(self, folder: Path) -> None:
        (image,) = self.images(final_record(), folder)
        assert (image["src"] or "").startswith("data:image/png;base64,")
        assert image["alt"] == "true cat, predicted dog at 97%"

    def test_missing_pictures_are_said(self, folder: Path) -> None:
        for gone, why in (
            (None, "was not given"),
            (folder.parent / "elsewhere", "it was deleted, moved, or lies on another machine"),
        ):
            page = render(read_record(final_record()), gone)
            assert why in page
            assert "true cat, predicted dog at 97%" in page
        (folder / "mistakes" / "0.png").write_bytes(b"no picture")
        assert self.images(final_record(), folder) == []
        assert "1 of 1 picture is not" in render(read_record(final_record()), folder)

    def test_pictures_of_another_final_training_are_not_shown(self, folder: Path) -> None:
        later = final_record(read="2026-11-02T10:00:00+00:00")
        assert self.images(later, folder) == []
        assert "holds another final training" in render(read_record(later), folder)

    def test_no_file_outside_the_folder_is_read(self, folder: Path) -> None:
        Image.new("L", (8, 8)).save(folder.parent / "secret.png")
        for file in ("../secret.png", str(folder.parent / "secret.png")):
            mistake = Mistake(file=file, label=0, predicted=1, probability=0.9)
            exported = replace(final_record().exported, mistakes=(mistake,))
            assert self.images(final_record(exported=exported), folder) == []

    def test_large_pictures_are_made_small(self, folder: Path) -> None:
        noise = Image.effect_noise((1_000, 500), 90)
        noise.save(folder / "mistakes" / "0.png")
        (image,) = self.images(final_record(), folder)
        assert len(image["src"] or "") < 30_000

    def test_names_of_classes_do_nothing(self, folder: Path) -> None:
        record = final_record(classes=(EVIL, "</script>"))
        page = render(read_record(record), folder)
        assert "<script>alert" not in page
        seen = parsed(page)
        harmless = render(read_record(final_record()), folder)
        assert seen.names.count("script") == harmless.count("<script>")
        assert [a.get("src") for n, a in seen.tags if n == "img"] == [
            a["src"] for a in self.images(final_record(), folder)
        ]
        assert EVIL in seen.text

    @pytest.mark.parametrize(
        ("probability", "said"), [(0.97, "is sure"), (0.6, "is rather sure"), (0.14, "is not sure")]
    )
    def test_sure_is_only_what_is(self, probability: float, said: str) -> None:
        plain = final_record()
        mistake = replace(plain.exported.mistakes[0], probability=probability)
        exported = replace(plain.exported, mistakes=(mistake,))
        part = tested.classes(replace(plain, exported=exported), None)
        assert part is not None
        assert said in part.content

    def test_the_tested_design_is_named_where_it_is_not_the_incumbent(self) -> None:
        final = final_record()
        size = f"{final.chosen.parameters:,} parameters"
        seen = parsed(render(read_record(final)))
        best = read_record(final).incumbent
        assert best is not None
        assert best.architecture is not None
        assert best.architecture != final.chosen.architecture
        assert f"trial 4, {size}; 95% interval 70.00" in seen.text
        assert f"The final training chose another design, trial 4, {size}" in seen.text
        rows = parsed(render_comparison(read_record(final), study())).rows
        took = "10 s on cpu"
        assert f"The final training took {took}" in seen.text
        assert any(row[-1] == took for row in rows)
        assert any(row[7] == f"trial 4, {size}" for row in rows if len(row) == 10)
        same = replace(final, finalists=(replace(final.chosen, architecture=best.architecture),))
        assert "chose another design" not in render(read_record(same))


class TestAgainstTheDatabase:
    """A small real search, read with SQL and with Optuna alone."""

    @pytest.fixture(scope="class")
    @staticmethod
    def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyRecord, Path]:
        from tests.kits.studies import TINY_SPACE

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
        choices.parallel,
    ):
        assert not re.search(r"\b(nan|NaN|<NA>)\b", make(record).content)
    design.best_design(record)
