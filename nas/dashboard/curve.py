"""The learning curve of one trial as a small picture."""

import math
from collections.abc import Sequence

from nas.text import percent

_WIDTH, _HEIGHT = 420, 150  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 408, 12, 122  # of the plot in the picture
_LINE, _TEXT = "#3b82c4", "#808080"  # seen on white and on black


def curve_svg(curve: Sequence[tuple[int, float]], epochs: int) -> str:
    """Accuracy over epochs as an SVG document.

    Args:
        curve: (epoch from 1, accuracy of 0..1).
        epochs: of a run to the end: the length of the axis.
    """
    known = [(epoch, accuracy) for epoch, accuracy in curve if math.isfinite(accuracy)]
    last = max([epochs, *(epoch for epoch, _ in known)])
    accuracies = [accuracy for _, accuracy in known] or [0.0, 1.0]
    low, high = math.floor(min(accuracies) * 10) / 10, math.ceil(max(accuracies) * 10) / 10
    if high <= low:  # all the same, and a multiple of 10%
        low, high = low - 0.1, high + 0.1

    def x(epoch: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (epoch - 1) / max(1, last - 1)

    def y(accuracy: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (accuracy - low) / (high - low)

    points = " ".join(f"{x(epoch):.1f},{y(accuracy):.1f}" for epoch, accuracy in known)
    dots = "".join(
        f'<circle cx="{x(epoch):.1f}" cy="{y(accuracy):.1f}" r="2.5"/>' for epoch, accuracy in known
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">'
        f'<path d="M{_LEFT},{_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="{_TEXT}"/>'
        f'<g fill="{_TEXT}" text-anchor="end">'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}">{high:.0%}</text>'
        f'<text x="{_LEFT - 6}" y="{_BOTTOM}">{low:.0%}</text></g>'
        f'<g fill="{_TEXT}"><text x="{_LEFT}" y="{_BOTTOM + 18}">epoch 1</text>'
        f'<text x="{_RIGHT}" y="{_BOTTOM + 18}" text-anchor="end">{last}</text></g>'
        f'<polyline points="{points}" fill="none" stroke="{_LINE}" stroke-width="2"/>'
        f'<g fill="{_LINE}">{dots}</g></svg>'
    )


def curve_in_words(curve: Sequence[tuple[int, float]]) -> str:
    """What the picture shows: first, best and last accuracy."""
    if not curve:
        return "no epoch has ended"
    best_epoch, best = max(curve, key=lambda point: (point[1], -point[0]))
    (first_epoch, first), (last_epoch, last) = curve[0], curve[-1]
    if first_epoch == last_epoch:
        return f"{percent(first)} after epoch {first_epoch}"
    return (
        f"{percent(first)} after epoch {first_epoch}, at best {percent(best)} after epoch "
        f"{best_epoch}, {percent(last)} after epoch {last_epoch}"
    )
