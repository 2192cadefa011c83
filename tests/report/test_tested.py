"""The tested network: its confusions, its mistakes as pictures, and who chose it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from nas.final.records import ClassResult, FinalRecord, Mistake
from nas.report import mistakes
from nas.report.compare import render_comparison
from nas.report.page import render
from tests.kits.pages import parsed
from tests.kits.records import EVIL, final_record, read_record, study


class TestTestedNetwork:
    @pytest.mark.parametrize(("number", "drawn"), [(200, True), (1_000, False)])
    def test_of_very_many_classes_only_pairs_are_shown(self, number: int, drawn: bool) -> None:
        row = [0] * number
        matrix = [[*row[:i], 9, *row[i + 1 :]] for i in range(number)]
        matrix[3][5] = 1
        names = tuple(f"c{i}" for i in range(number))
        exported = replace(final_record().exported, confusion=tuple(map(tuple, matrix)))
        final = final_record(names, exported=exported)
        section = mistakes.mistakes(final, None)
        assert section is not None
        assert ("confusion" in dict(section.figures)) == drawn
        assert "Most often c3 is taken for c5" in section.content
        assert ("A row is a true class" in section.content) == drawn

    def test_confusion_shows_right_and_wrong_apart(self) -> None:
        right, wrong = mistakes.confusion_figure(((8, 2, 0), (0, 10, 0), (1, 0, 3)), "abc").data
        assert list(right.z) == [[0.8, None, None], [None, 1.0, None], [None, None, 0.75]]
        assert list(wrong.z) == [[None, 0.2, None], [None, None, None], [0.25, None, None]]
        assert list(wrong.text) == [["8", "2", ""], ["", "10", ""], ["1", "", "3"]]

    def test_many_classes_lose_their_labels(self) -> None:
        few = mistakes.confusion_figure([[1] * 20] * 20, [f"c{i}" for i in range(20)])
        assert len(few.layout.xaxis.ticktext) == 20
        many = mistakes.confusion_figure([[1] * 21] * 21, [f"c{i}" for i in range(21)])
        assert many.layout.xaxis.showticklabels is False
        assert all(trace.texttemplate is None for trace in many.data)

    def test_confused_most_often_first(self) -> None:
        exported = replace(final_record().exported, confusion=((8, 2, 0), (0, 5, 5), (1, 0, 3)))
        record = final_record(classes=("a", "b", "c"), exported=exported)
        pairs = mistakes.confused_table(record).head(2)
        assert pairs.to_dict("records") == [
            {"label": "b", "predicted": "c", "images": 5, "share": 0.5},
            {"label": "a", "predicted": "b", "images": 2, "share": 0.2},
        ]

    def test_the_caption_names_the_most_frequent_mistake(self) -> None:
        exported = replace(final_record().exported, confusion=((8, 2, 0), (0, 5, 5), (1, 0, 9)))
        record = final_record(classes=("a", "b", "c"), exported=exported)
        part = mistakes.mistakes(record, None)
        assert part is not None
        assert "8 of 30 test images are classified wrongly" in part.content
        assert "Most often b is taken for c: 5 images, 50.0% of that class" in part.content
        right = replace(exported, confusion=((10, 0, 0), (0, 10, 0), (0, 0, 10)), mistakes=())
        part = mistakes.mistakes(replace(record, exported=right), None)
        assert part is not None
        assert "No test image was classified wrongly. A row is" in part.content
        assert "Most often" not in part.content

    def test_the_worst_class_is_first(self) -> None:
        results = (("a", 10, 9), ("b", 10, 2), ("c", 0, 0))
        per_class = tuple(ClassResult(name=n, images=i, correct=c) for n, i, c in results)
        classes = mistakes.class_table(replace(final_record().exported, per_class=per_class))
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
        assert image["alt"] == ""  # the words below it say what it is

    def test_missing_pictures_are_said(self, folder: Path) -> None:
        for gone, why in (
            (None, "was not given"),
            (folder.parent / "elsewhere", "it was deleted, moved, or is on another machine"),
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

    def test_a_broken_picture_is_none(self, folder: Path) -> None:
        path = folder / "mistakes" / "0.png"
        content = bytearray(path.read_bytes())
        content[content.index(b"IDAT") - 1] = 3  # bytes that the chunk says to have
        path.write_bytes(content)
        assert self.images(final_record(), folder) == []

    def test_a_name_that_no_file_can_have_is_no_picture(self, folder: Path) -> None:
        mistake = Mistake(file="mistakes/\0.png", label=0, predicted=1, probability=0.9)
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
        ("probability", "said"),
        [
            (0.97, "wrong and confident; some"),
            (0.6, "wrong and fairly confident (at most 60%)"),
            (0.14, "wrong and not confident (at most 14%)"),
        ],
    )
    def test_confident_is_only_what_is(self, probability: float, said: str) -> None:
        plain = final_record()
        mistake = replace(plain.exported.mistakes[0], probability=probability)
        exported = replace(plain.exported, mistakes=(mistake,))
        part = mistakes.mistakes(replace(plain, exported=exported), None)
        assert part is not None
        assert said in part.content

    def test_a_comparison_names_the_tested_design(self) -> None:
        final = final_record()
        rows = parsed(render_comparison(read_record(final), study(name="other"))).rows
        assert any(row[-1] == "10 s on cpu" for row in rows)
        size = f"{final.chosen.parameters:,} parameters"
        assert any(row[7] == f"trial 4, {size}" for row in rows if len(row) == 10)
