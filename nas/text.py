"""Numbers and foreign text as people read them, the same in the terminal and in reports."""


def percent(share: float | None) -> str:
    """A share of 0..1 as a percentage with two decimals: 94.12%; a dash for None."""
    return "-" if share is None else f"{share:.2%}"


def share(value: float) -> str:
    """A share of 0..1 as a percentage with one decimal: 12.5%."""
    return f"{value:.1%}"


def whole(value: int | None) -> str:
    """A whole number with thousands separators: 4,922,826; a dash for None."""
    return "-" if value is None else f"{value:,}"


def millions(value: int | None) -> str:
    """Mult-adds in millions: 520.6 M, 1.81 M, 0.68 M; small numbers as they are: 54,321."""
    if value is None or value < 100_000:
        return whole(value)
    scaled = value / 1e6
    return f"{scaled:,.1f} M" if scaled >= 10 else f"{scaled:.2f} M"


def kibibytes(value: int | None) -> str:
    """Bytes in units of 1,024: 219.6 KiB, 256 KiB, 970 B; a dash for None."""
    if value is None:
        return "-"
    if value < 1024:
        return f"{value} B"
    return f"{value / 1024:,.1f}".removesuffix(".0") + " KiB"


def about(value: int | None) -> str:
    """A count in three digits: 970, 11.7 k, 4.92 M; a dash for None."""
    if value is None:
        return "-"
    if value < 1000:
        return str(value)
    thousands, more = divmod(int(f"{value:.2e}".partition("e")[2]), 3)  # of the rounded value
    return f"{value / 1000**thousands:.{2 - more}f} {' kMGT'[thousands]}"


def shortened(text: str, width: int) -> str:
    """A text of at most so many characters, with dots where its end was left out."""
    return text if len(text) <= width else text[: max(0, width - 3)].rstrip() + "..."[:width]


def short_count(count: int) -> str:
    """A count with its unit, exact: 5000000 -> 5M, 1634000 -> 1.634M, 1234567 -> 1234567."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= unit and count % (unit // 1000) == 0:
            return f"{count / unit:.3f}".rstrip("0").rstrip(".") + name
    return str(count)


def short_bytes(size: int) -> str:
    """Bytes with their unit, exact, as options read them: 262144 -> 256k, 1048576 -> 1M."""
    for unit, name in ((1024**2, "M"), (1024, "k")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def duration(seconds: float) -> str:
    """A time span in at most two parts: 4.2 s, 42 s, 3 min 20 s, 1 h 20 min, 2 days 4 h.

    0.0 s where a clock was set back meanwhile.
    """
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours = minutes // 60
    if hours == 0:
        parts = (minutes, "min"), (rest, "s")
    elif hours < 48:
        parts = (hours, "h"), (minutes % 60, "min")
    else:
        parts = (hours // 24, "days"), (hours % 24, "h")
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def milliseconds(value: float) -> str:
    """A latency in three digits: 0.412 ms, 5 ms, 12.3 ms."""
    return f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"


def duration_range(low: float, high: float) -> str:
    """Two time spans, in units of which they have about two: 14 to 22 min, 50 s to 2 min, 3 h.

    A first one that rounds to nothing is not named: up to 10 s.
    """
    units = ((86_400, "days"), (3_600, "h"), (60, "min"))
    size, unit = next((found for found in units if high >= 2 * found[0]), (1, "s"))
    if unit == "s" and high >= 10:
        low, high = 5 * round(low / 5), 5 * round(high / 5)
    last = f"{high / size:.0f} {unit}"
    first = f"{low / size:.0f}"
    if low < 1.5 * size and unit != "s":
        first = duration_range(low, low)
    if last in (first, f"{first} {unit}"):
        return last
    return f"up to {last}" if first == "0" else f"{first} to {last}"


def percent_range(low: float, high: float) -> str:
    """Two shares of 0..1: 93.63% to 94.56%."""
    return f"{percent(low)} to {percent(high)}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign: +1.40."""
    return f"{100 * difference:+.2f}"


def plural(number: int, noun: str, several: str | None = None) -> str:
    """A count with its noun, and what several are called where it is not the noun with an s."""
    return f"{whole(number)} {noun if number == 1 else several or noun + 's'}"


def are(number: int) -> str:
    """The verb after a count."""
    return "is" if number == 1 else "are"


def times(count: int) -> str:
    """How often: once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def printable(text: object) -> str:
    r"""A text or path with what a terminal would act on, or cannot show, written as ``\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def in_one_line(message: object) -> str:
    """What an error says, fit for one line of a terminal."""
    return printable(" ".join(str(message).split()))


def error_lines(error: BaseException) -> list[str]:
    """What an error and each of its notes say, a line for each."""
    said = in_one_line(error) or type(error).__name__
    return [f"error: {said}", *map(in_one_line, getattr(error, "__notes__", ()))]
