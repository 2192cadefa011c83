"""Acting on some events of a search or a final training."""

from collections.abc import Callable
from typing import TypeVar

E = TypeVar("E")


def on(kind: type[E], act: Callable[[E], object]) -> Callable[[object], None]:
    """Does this at every event of this kind, and nothing at others."""

    def on_event(event: object) -> None:
        if isinstance(event, kind):
            act(event)

    return on_event


def each(*actions: Callable[[E], None]) -> Callable[[E], None]:
    """Hands every event to each of these."""

    def on_event(event: E) -> None:
        for act in actions:
            act(event)

    return on_event
