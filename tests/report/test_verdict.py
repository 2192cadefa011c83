"""The head of a report: its numbers are those of plain SQL, and they are of one design."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from nas.final.records import FinalRecord
from nas.report.page import render
from nas.report.verdict import next_step, tiles
from nas.statistics import difference_interval, wilson_interval
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import Outcome, TestReading
from nas.text import duration, millions
from tests.kits.pages import Parsed, parsed
from tests.kits.places import STUDIES
from tests.kits.records import final_record, mixed, read_record, study, trial

MISSING = "\u2013"


class Database:
    """A study as SQL alone reads it."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            self.study = {
                key: json.loads(value)
                for key, value in db.execute("SELECT key, value_json FROM study_user_attributes")
            }
            self.trials: dict[int, dict[str, Any]] = {
                number: {"state": state, "value": value, "last": last}
                for number, state, value, last in db.execute(
                    "SELECT number, state, (SELECT value FROM trial_values v WHERE v.trial_id = "
                    "t.trial_id), (SELECT max(step) FROM trial_intermediate_values i WHERE "
                    "i.trial_id = t.trial_id) FROM trials t"
                )
            }
            for number, key, value in db.execute(
                "SELECT number, key, value_json FROM trials JOIN trial_user_attributes USING "
                "(trial_id)"
            ):
                self.trials[number][key] = json.loads(value)
        self.settings = self.study["settings"]
        self.images = self.settings["validation_images"]
        complete = [(n, t) for n, t in self.trials.items() if t["state"] == "COMPLETE"]
        self.ranking = sorted(complete, key=lambda found: (-found[1]["value"], found[0]))
        readings = self.study.get("test_readings")
        self.final = readings[-1]["result"] if readings else None

    def interval(self, share: float) -> str:
        interval = wilson_interval(share, self.images)
        return f"{interval.low:.2%} to {interval.high:.2%}"


def between(estimate: dict[str, float]) -> str:
    return f"{estimate['low']:.2%} to {estimate['high']:.2%}"


@pytest.fixture(
    scope="module", params=["digits-example", "cifar10-h200", "digits-example, not tested"]
)
def read(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Database, Parsed]:
    """A study of the repository as SQL reads it, and its report."""
    name, _, untested = request.param.partition(", ")
    folder = STUDIES
    if untested:
        folder = tmp_path_factory.mktemp("studies")
        shutil.copy(STUDIES / f"{name}.db", folder)
        with closing(sqlite3.connect(folder / f"{name}.db")) as db:
            db.execute("DELETE FROM study_user_attributes WHERE key = 'test_readings'")
            db.commit()
    record = read_study(StudyLocation.at(name, studies_dir=folder))
    return Database(folder / f"{name}.db"), parsed(render(record))


class TestAgainstSql:
    def test_every_cell_of_the_leaderboard(self, read: tuple[Database, Parsed]) -> None:
        database, seen = read
        finalists = {d["trial"]: d for d in database.final["finalists"]} if database.final else {}
        first = database.ranking[0][1]["value"]
        expected = []
        for rank, (number, t) in enumerate(database.ranking, start=1):
            gap = difference_interval(first, database.images, t["value"], database.images)
            row = [
                str(rank),
                str(number),
                f"{t['value']:.2%}",
                database.interval(t["value"]),
                "first" if rank == 1 else "yes" if gap.low <= 0 else "no",
                f"{t['parameters']:,}",
                millions(t["mult_adds"]),
                str(t["last"]),
                duration(t["seconds"]),
            ]
            design = finalists.get(number, {})
            if database.final:
                row += [
                    f"{design[part]['mean']['value']:.2%}" if design.get(part) else MISSING
                    for part in ("validation", "test")
                ]
            expected.append(row)
        place = next(i for i, row in enumerate(seen.rows) if row[:1] == ["Rank"])
        rows = seen.rows[place + 1 : place + 1 + len(expected)]
        assert [row[:2] + row[3:] for row in rows] == expected
        assert all(row[2].startswith("B") for row in rows)

    def test_the_design_is_shown_with_its_trial(self, read: tuple[Database, Parsed]) -> None:
        database, seen = read
        (incumbent, _), final = database.ranking[0], database.final
        number = final["finalists"][0]["trial"] if final else incumbent
        assert f"trial {number}: B" in seen.text

    def test_the_tiles(self, read: tuple[Database, Parsed]) -> None:
        database, seen = read
        number, best = database.ranking[0]
        final = database.final
        counts = [
            t for t in database.trials.values() if t["outcome"] in ("trained", "stopped_early")
        ]
        design = final["finalists"][0] if final else best
        if final:
            exported, mean = final["exported"]["accuracy"], design["validation"]["mean"]
            several = len(final["seeds"]) > 1
            seeds = f"mean of {len(final['seeds'])} seeds" if several else "1 seed"
            accuracies = [
                f"Test accuracy {exported['value']:.2%} exported model, {design['name']}; "
                f"95% interval {between(exported)}",
                f"Validation accuracy {mean['value']:.2%} {design['name']}, {seeds}; "
                f"95% interval {between(mean)}",
            ]
        else:
            accuracies = [
                f"Validation accuracy {best['value']:.2%} trial {number}, the best of "
                f"{len(database.ranking)}, so optimistic; 95% interval "
                f"{database.interval(best['value'])}"
            ]
        limit = database.settings["limits"]["max_parameters"]
        seconds = sum(t.get("seconds", 0) for t in database.trials.values())
        cut = sum(t["outcome"] == "stopped_early" for t in counts)
        expected = [
            *accuracies,
            f"Parameters {design['parameters']:,} {design['parameters'] / limit:.1%} of {limit:,}",
            f"Mult-adds {millions(design['mult_adds'])} per image",
            f"Designs trained {len(counts)} {len(counts) - cut} to the end, {cut} stopped early",
            f"Search: training time {duration(seconds)}",
        ]
        lines = seen.text.splitlines()
        start = lines.index(expected[0])
        shown = lines[start : start + len(expected)]
        assert shown[:-1] == expected[:-1]
        assert shown[-1].startswith(f"{expected[-1]} ")

    def test_the_numbers_of_its_sentences(self, read: tuple[Database, Parsed]) -> None:
        database, seen = read
        settings = database.settings
        epochs = settings["recipe"]["epochs"]
        by = {
            outcome: [t for t in database.trials.values() if t["outcome"] == outcome]
            for outcome in ("trained", "stopped_early")
        }
        trained = len(by["trained"]) + len(by["stopped_early"])
        saved = sum(epochs - t["last"] for t in by["stopped_early"])
        rates = [t["images_per_second"] for t in database.trials.values()]
        for text in (
            f"at most {settings['limits']['max_parameters']:,} parameters",
            f"up to {epochs} epochs on {settings['train_images']:,} training images",
            f"on {database.images:,} validation images; {trained} were trained.",
            f"{len(database.trials)} trials: {len(by['trained'])} trained to the last epoch and "
            f"{len(by['stopped_early'])} stopped early.",
            f"saved {saved} of {trained * epochs} epochs ({saved / (trained * epochs):.0%})",
            f"at a median of {median(rates):,.0f} images/s",
        ):
            assert text in seen.text
        if database.final:
            tested = database.final["exported"]
            right = sum(result["correct"] for result in tested["per_class"])
            images = sum(result["images"] for result in tested["per_class"])
            assert (
                f"classifies {right / images:.2%} of {images:,} test images correctly" in seen.text
            )
            assert f"took {duration(database.final['seconds'])} on" in seen.text


class TestOneDesign:
    @staticmethod
    def chose(number: int) -> FinalRecord:
        final = final_record()
        return replace(
            final, finalists=(replace(final.chosen, name=f"trial {number}", trial=number),)
        )

    def test_all_numbers_are_those_of_the_exported_design(self) -> None:
        final = self.chose(9)
        shown = {tile.label: tile for tile in tiles(read_record(final), final)}
        assert next(iter(shown)) == "Test accuracy"
        assert shown["Test accuracy"].value == "80.00%"
        assert shown["Validation accuracy"].value == "93.00%"
        assert shown["Parameters"].value == f"{final.chosen.parameters:,}"
        assert shown["Mult-adds"].value == millions(final.chosen.mult_adds)
        assert "trial 9" in shown["Test accuracy"].detail
        page = render(read_record(final))
        seen = parsed(page)
        assert "In the search trial 4 was first, with a validation accuracy of 91.23%" in seen.text
        assert "The exported design, trial 9, to scale" in seen.text
        (marked,) = re.findall(r'<tr class="best"><th scope="row">(\d+)</th><td>(\d+)', page)[:1]
        assert marked == ("2", "9")
        assert "was first" not in render(read_record(self.chose(4)))

    def test_without_a_final_training_they_are_those_of_the_incumbent(self) -> None:
        shown = {tile.label: tile for tile in tiles(mixed(), None)}
        best = mixed().incumbent
        assert best is not None
        assert "Test accuracy" not in shown
        assert shown["Validation accuracy"].value == "91.23%"
        assert "the best of 3, so optimistic" in shown["Validation accuracy"].detail
        assert shown["Parameters"].value == f"{best.parameters:,}"

    @pytest.mark.parametrize(("epochs", "said"), [(8, True), (200, False)])
    def test_says_as_the_terminal_does_that_runs_were_short(self, epochs: int, said: bool) -> None:
        record = read_record(final_record(recipe={"epochs": epochs}))
        shown = parsed(render(record)).text
        sentence = f"The recipe long is designed for 200 epochs, not {epochs}; --recipe fast may"
        assert (sentence in shown) is said

    def test_sections_stand_in_one_order(self) -> None:
        assert parsed(render(read_record(final_record()))).headings(2) == [
            "Verdict",
            "Leaderboard",
            "Trade-off",
            "Curves",
            "Mistakes",
            "Design",
            "Appendix",
        ]


class TestNextStep:
    def test_follows_from_what_is_there(self, tmp_path: Path) -> None:
        studies = tmp_path / "my studies"
        folder = studies / "cifar10-5M" / "final"
        where = f"--study cifar10-5M --studies-dir '{studies}'"
        nothing = study(trial(0, Outcome.STOPPED_EARLY, 0.4, epochs=1))
        assert next_step(nothing, None, folder).command == f"nas search {where}"
        assert next_step(mixed(), None, folder).command == f"nas final {where}"
        late = study(*(trial(i, accuracy=0.5 + i / 100) for i in range(30)))
        assert next_step(late, None, folder).command == f"nas search {where} --trials +15"
        final = final_record()
        assert next_step(late, final, folder).command == f"nas dashboard {where}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(final.to_dict()))
        assert next_step(late, final, folder).command == f"nas predict '{folder}' IMAGE"
        assert f"'{folder}'" in parsed(render(read_record(final), folder)).text

    @pytest.mark.parametrize("between", [" ", "="])
    def test_the_url_of_a_database_is_not_repeated(self, between: str) -> None:
        typed = f"nas search --storage{between}postgresql://me:secret@host/nas"
        record = replace(mixed(), command=typed)
        command = next_step(record, None, Path("studies/cifar10-5M/final")).command
        assert command == "nas final --study cifar10-5M --storage URL"


def test_a_reading_that_was_cut_off_is_named_and_promises_no_test_accuracy() -> None:
    cut_off = TestReading(began="2026-11-22T04:41:46+00:00", plan="", networks="")
    seen = parsed(render(replace(mixed(), readings=(cut_off,)), None)).text
    assert "The test images of this study were read once." in seen
    assert "the design's accuracy on unseen images is still to be measured" in seen
