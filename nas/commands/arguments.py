"""How the commands read values from a command line, and the options they share."""

import argparse
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from nas import values
from nas.architecture import ImageInput
from nas.data.catalogue import DATASET_NAMES
from nas.errors import RequestError
from nas.runtime.precision import AUTO, PRECISIONS
from nas.search.request import DATA_DIR, GRACE, SearchRequest
from nas.study.location import without_secrets

T = TypeVar("T")

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_COUNT = re.compile(r"(\d[\d_]{0,29}(?:\.\d{1,30})?(?:e\+?\d{1,2})?)([kmg]?)", re.IGNORECASE)
_AS_SEARCHED = " (default: as the last search of --study)"


def large_number(text: str) -> int:
    """A positive count such as 5000000, 5_000_000, 5e6, 5M or 4.9M."""
    return _count(text, "5000000, 5e6 or 5M")


def whole_number(text: str) -> int:
    """A positive count such as 50."""
    return _count(text, "10")


@dataclass(frozen=True, slots=True)
class Trials:
    """How many designs are to be trained: in a study, or beyond those that it holds."""

    number: int
    additional: bool

    def __str__(self) -> str:
        """As it is typed."""
        return f"{'+' if self.additional else ''}{self.number}"


def trials(text: str) -> Trials:
    """A positive count such as 50, or +20 for so many more."""
    number = text.strip().removeprefix("+")
    try:
        return Trials(whole_number(number), additional=number != text.strip())
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected a positive whole number such as 50, or +20 for 20 more, got {text!r}"
        ) from None


def _count(text: str, example: str) -> int:
    match = _COUNT.fullmatch(text.strip())
    value = Fraction(match[1].replace("_", "")) * _UNITS[match[2].lower()] if match else Fraction()
    whole = int(value) if value.denominator == 1 else None
    return _checked(values.whole, whole, f"a positive whole number such as {example}", text)


def seed(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text) if re.fullmatch(r"\d{1,30}", text) else None
    return _checked(values.seed, value, "a whole number such as 0 or 42", text)


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    expected = "a share above 0 and at most 1, such as 0.1"
    return _checked(values.share, _number(text), expected, text)


def seconds(text: str) -> float:
    """A duration above 0, in seconds."""
    return _checked(values.duration, _number(text), "seconds above 0, such as 3600", text)


def port(text: str) -> int:
    """A TCP port a user may listen on."""
    if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port in 1..65535, got {text!r}")
    return int(text)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between, such as 2,1,1,1."""
    if not re.fullmatch(r"\s*\d{1,18}\s*(,\s*\d{1,18}\s*)*", text):
        raise argparse.ArgumentTypeError(
            f"expected whole numbers with commas between, such as 2,1,1,1, got {text!r}"
        )
    return tuple(int(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names with commas between, such as lr,optimizer."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(
            f"expected names with commas between, such as lr,optimizer, got {text!r}"
        )
    return found


def image_shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width, such as 3x32x32."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"expected channels x height x width such as 3x32x32, got {text!r}"
        )
    return int(match[1]), int(match[2]), int(match[3])


def image_input(shape: tuple[int, int, int], classes: int) -> ImageInput:
    """Image shape and classes as one value."""
    channels, height, width = shape
    return ImageInput(channels=channels, height=height, width=width, classes=classes)


def real(text: str) -> float:
    """A finite number."""
    return _checked(values.real, _number(text), "a number such as 0.1", text)


def path(text: str) -> Path:
    """A path, in which ~ is the home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(
            f"expected a path, got {text!r}, but no home folder is known for its ~: write it out"
        ) from error


def of_study(field: str, *, none: str = "none") -> str:
    """What a help text says of an option that is not given: the study says, or `SearchRequest`.

    Args:
        field: of `SearchRequest`.
        none: what a default of None, or of nothing, comes to.
    """
    (default,) = (f.default for f in fields(SearchRequest) if f.name == field)
    if isinstance(default, tuple):
        default = ",".join(default)
    return f" (default: that of --study, or {none if default in (None, '') else default})"


def add_data_folder_options(parser: argparse._ActionsContainer) -> None:
    """The options that say where images come from."""
    parser.add_argument(
        "--dataset",
        choices=DATASET_NAMES,
        metavar="NAME",
        help=f"one of {', '.join(DATASET_NAMES)}; auto: cifar10, or digits if it cannot be had"
        + of_study("dataset"),
    )
    add_data_dir_option(parser)


def add_dataset_options(parser: argparse._ActionsContainer) -> None:
    """The options that say which images."""
    add_data_folder_options(parser)
    parser.add_argument(
        "--subset",
        type=share,
        metavar="SHARE",
        help="share of the training images to use" + of_study("subset"),
    )
    add_broken_option(parser)
    add_duplicates_option(
        parser,
        "of training images with equal pixels keep the first, and none of those in two classes",
    )


def add_broken_option(parser: argparse._ActionsContainer) -> None:
    """The option that says what to do with files that are no images."""
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        default=None,
        help="leave out files of a folder that are no readable images, instead of refusing them"
        + _AS_SEARCHED,
    )


def add_duplicates_option(parser: argparse._ActionsContainer, what: str) -> None:
    """The option that leaves out images whose pixels are equal; `what` says which."""
    parser.add_argument(
        "--drop-duplicates", action="store_true", default=None, help=what + _AS_SEARCHED
    )


def add_data_dir_option(parser: argparse._ActionsContainer) -> None:
    """The option that says where images lie."""
    parser.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="where images lie (default: where the last search of --study read them, or "
        f"{DATA_DIR})",
    )


def add_study_options(parser: argparse._ActionsContainer, *, study_required: bool) -> None:
    """The options that say which study."""
    parser.add_argument(
        "--study",
        metavar="NAME",
        required=study_required,
        help="name of the study"
        + (
            ""
            if study_required
            else " (default: dataset, or name of an own folder, and budget, such as cifar10-5M)"
        ),
    )
    add_storage_options(parser)


def add_studies_dir_option(parser: argparse._ActionsContainer) -> None:
    """The option that says in which folder studies lie."""
    parser.add_argument(
        "--studies-dir", type=path, default=Path("studies"), metavar="DIR", help="where studies lie"
    )


def add_storage_options(parser: argparse._ActionsContainer) -> None:
    """The options that say where studies lie."""
    add_studies_dir_option(parser)
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database of the study, as an SQLAlchemy URL, instead of a file in --studies-dir",
    )


def add_report_option(parser: argparse._ActionsContainer) -> None:
    """The option that says where reports go."""
    parser.add_argument(
        "--reports-dir",
        type=path,
        default=Path("reports"),
        metavar="DIR",
        help="where the report is written",
    )


def add_grace_option(parser: argparse._ActionsContainer) -> None:
    """The option that says when a worker is given up."""
    parser.add_argument(
        "--grace",
        type=seconds,
        default=GRACE,
        metavar="SECONDS",
        help="without a sign of life after which a worker counts as gone and its trial is queued "
        "again",
    )


def add_device_option(parser: argparse._ActionsContainer) -> None:
    """The option that says where to compute."""
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N"
    )


def add_precision_option(parser: argparse._ActionsContainer, *, auto: str) -> None:
    """The option that says in which arithmetic to train, and what `auto` is."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=AUTO,
        help=f"arithmetic of training; auto: {auto}",
    )


def add_worker_options(parser: argparse._ActionsContainer) -> None:
    """The options that say with how many processes to train."""
    parser.add_argument(
        "--workers",
        type=whole_number,
        default=1,
        metavar="N",
        help="processes on this machine, each on a GPU of its own or with its share of the threads",
    )
    parser.add_argument(
        "--per-gpu", type=whole_number, default=1, metavar="N", help="workers that may share a GPU"
    )


def add_json_option(parser: argparse._ActionsContainer) -> None:
    """The option that makes stdout one JSON document."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def command_line(command: str, options: argparse.Namespace) -> str:
    """The command as a person would type it again, without the password of a URL."""
    words = ["nas", command]
    for name, value in vars(options).items():
        if name in ("command", "json") or value is None or value is False or value in ((), []):
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [option, *value]
        elif isinstance(value, tuple):
            words += [option, ",".join(value)]
        else:
            shown = without_secrets(value) if name == "storage" else value
            words += [option, str(shown)]
    return shlex.join(words)


def _checked(check: Callable[[str, object], T], value: object, expected: str, text: str) -> T:
    """What a check of `nas.values` gives for what was read from a text."""
    try:
        return check("", value)
    except RequestError as error:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}") from error


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
