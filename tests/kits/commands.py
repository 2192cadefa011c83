"""What a command says where it is refused."""

import pytest

Capture = pytest.CaptureFixture[str]


SIGN_OF_LIFE = "reading images"


def error_of(capsys: Capture, status: int, expected: int = 2) -> str:
    """The one line of an error, which is all that is printed but for a sign of life."""
    captured = capsys.readouterr()
    assert (status, captured.out) == (expected, ""), captured.err
    (line,) = [line for line in captured.err.splitlines() if line != SIGN_OF_LIFE]
    assert line.startswith("error: ")
    return line


def error_line(capsys: Capture, status: int) -> str:
    """The one line of an error of a command that has said something on stderr before."""
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, ""), captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    return line
