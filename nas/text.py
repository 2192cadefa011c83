"""Numbers and foreign text as people read them, the same in the terminal and in reports."""


def percent(share: float | None) -> str:
    """A share of 0..1 as a percentage with two decimals: 94.12%; a dash for None."""
    return "-" if share is None else f"{share:.2%}"


def whole(value: int | None) -> str:
    """A whole number with thousands separators: 4,922,826; a dash for None."""
    return "-" if value is None else f"{value:,}"


def millions(value: int | None) -> str:
    """Mult-adds in millions, with at least two significant digits: 520.6 M, 1.81 M, 0.68 M."""
    if value is None:
        return "-"
    scaled = value / 1e6
    if scaled >= 10:
        return f"{scaled:,.1f} M"
    return f"{scaled:.2f} M" if scaled >= 1 else f"{scaled:.2g} M"


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
