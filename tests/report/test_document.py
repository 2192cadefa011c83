"""The file of a report: its name, and that it is whole or not there."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.report.document import slug, write_page
from nas.report.page import write_report
from tests.kits.records import mixed, study


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
