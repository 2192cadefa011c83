"""The programs and commands of docs/tutorial.md run in their order, shortened."""

import runpy
import shlex
import sys
from pathlib import Path

import pytest

from nas.commands import main
from tests.kits.documents import blocks
from tests.kits.places import ROOT

DOCS = ROOT / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
SHORT = {"--trials": "2", "--epochs": "1", "--seeds": "1"}


def write_program(text: str) -> None:
    """Saves a program under the name in its first line."""
    Path(text.split()[1]).write_text(text, encoding="utf-8")


def shortened(words: list[str]) -> list[str]:
    return [SHORT.get(before, word) for before, word in zip(["", *words[:-1]], words, strict=True)]


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for language, text in blocks((DOCS / "deploy.md").read_text(encoding="utf-8")):
        if language == "python":
            write_program(text)
    printed: dict[str, str] = {}  # by command or program
    for language, text in blocks(TUTORIAL):
        if language == "python":
            write_program(text)
        for line in text.splitlines() if language == "sh" else ():
            words = shlex.split(line)
            if words[:2] == ["python", "-m"]:
                name = words[2]
                if name == "nas.dashboard":
                    continue  # serves until Ctrl-C
                done = main([name.removeprefix("nas."), *shortened(words[3:])])
                assert done == 0, line
            elif words[0] == "python":
                name = words[1]
                monkeypatch.setattr(sys, "argv", words[1:])
                runpy.run_path(name, run_name="__main__")
            else:
                assert words[0] in ("pip", "mkdir"), line
                continue
            printed[name] = capsys.readouterr().out
    assert "1797 images" in printed["make_photos.py"]
    verdict = printed["nas.count"].splitlines()[-7:]
    assert "\n".join(verdict) in TUTORIAL
    assert "python -m nas.final --study photos\n" in printed["nas.search"]
    assert "test    images read once in this study" in printed["nas.final"]
    rows = [row.split() for row in printed["nas.predict"].splitlines()[1:]]
    assert len(rows) == 8
    classes = {file: name for file, name, *_ in rows}
    assert printed["use.py"].split()[:2] == rows[0][:2]
    for row in printed["with_onnx.py"].splitlines():
        file, name = row.split()
        assert classes[file] == name
