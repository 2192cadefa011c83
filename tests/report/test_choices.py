"""What the choices of a design did, and which of them mattered."""

import random
from dataclasses import replace
from statistics import median

import pandas as pd
import pytest

from nas.architecture import Architecture
from nas.report import choices
from nas.search.importances import Importances, importances, letter
from nas.study.records import StudyRecord
from tests.kits.records import SETTINGS, mixed, study, trial

GREYS = {"rgba(134,142,153,.4)"}


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

    def test_medians_are_of_all_designs_and_dots_of_those_near(self) -> None:
        """One pool for all: 900 near designs, and 100 far below."""
        accuracies = [0.1 if i % 10 == 0 else 0.8 + i / 10_000 for i in range(1_000)]
        record = study(*(trial(i, accuracy=a) for i, a in enumerate(accuracies)))
        table = choices.choices_table(record)
        traces = {trace.name: trace for trace in choices.slices_figure(table).data}
        assert traces["P, median"].y == (pytest.approx(median(accuracies)),)
        assert min(traces["P"].y) > 0.5
        text = choices.slices(record).content
        assert "600 of 1,000 designs are shown" in text
        assert f"{600 - len(traces['P'].y)} of them, far below the others, are not drawn." in text

    def test_a_choice_of_a_few_designs_is_not_tested(self) -> None:
        """K is known of three designs alone, N of none otherwise than of all."""
        table = choices.choices_table(study(*(trial(i, accuracy=0.5) for i in range(20))))
        table["val_accuracy"] = [0.5 + (i * 7 % 20) / 100 for i in range(20)]
        order = table["val_accuracy"].rank().astype("Int64")
        table["C"], table["K"] = order, order.where(order > 17)
        said = choices.what_goes_with_accuracy(table)
        assert said == "Accuracy rises with channels (C) (rank correlation +1.00)."

    def test_a_design_without_projection_has_no_kernel_of_one(self) -> None:
        plain = trial(0, accuracy=0.5)
        one_stage = Architecture(
            blocks=(1,), channels=(8,), kernels=(3,), shortcut_kernels=(1,), pool=8
        )
        chosen = choices.choices_table(study(replace(plain, architecture=one_stage)))
        assert chosen["K"].isna().all()
        assert [len(trace.x) for trace in choices.slices_figure(chosen).data] == [1, 1, 1, 1, 0, 1]

    @pytest.mark.parametrize(
        ("accuracies", "said"),
        [
            ([0.5 + i / 100 for i in range(20)], "Accuracy rises with channels (C) (rank corr"),
            ([0.9 - i / 100 for i in range(20)], "Accuracy falls with channels (C) (rank corr"),
            ([0.5] * 20, "Accuracy does not rise or fall with any choice by more than chance."),
            ([0.5 + (i % 2) / 100 for i in range(20)], "with any choice by more than chance."),
            ([0.5 + i / 100 for i in range(19)], "cannot be told from 19 designs; 20 are needed."),
            ([], "cannot be told from 0 designs; 20 are needed."),
        ],
    )
    def test_with_which_choice_accuracy_rises(self, accuracies: list[float], said: str) -> None:
        """The trials differ in their channels alone."""
        record = study(*(trial(i, accuracy=a) for i, a in enumerate(accuracies)))
        text = choices.what_goes_with_accuracy(choices.choices_table(record))
        assert said in text
        assert ("correlation" in text) == ("channels" in text)


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
        assert "What mattered:" not in plot.content
        mattered = choices.importance_table(importances(record))
        bars = choices.importances_figure(mattered, weak=True).data[0]
        assert set(bars.marker.color) == GREYS
        strong = choices.importances_figure(mattered, weak=False).data[0]
        assert set(strong.marker.color) - GREYS
        assert bars.x == strong.x

    def test_what_mattered_is_named_or_cannot_be_told(self) -> None:
        rng = random.Random(1)
        sure = choices.what_mattered(self.of([rng.gauss(0, 0.005) for _ in range(150)]))
        assert "What mattered: channels (C)." in sure.content
        luck = choices.what_mattered(self.of([100 * rng.random() for _ in range(60)]))
        assert "Which choice mattered cannot be told: no bar ends beyond its mark." in luck.content

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
