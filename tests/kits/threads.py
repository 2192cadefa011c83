"""What happens while another thread looks on."""

import sys
import threading
from collections.abc import Callable

TIMES = 1_000


def asked_meanwhile(ask: Callable[[], object], change: Callable[[int], object]) -> None:
    """Asks again and again in another thread, and here changes what is asked about.

    Python changes threads as often as it can meanwhile. What the question raises is raised here.
    """
    ended, errors = threading.Event(), []

    def go_on_asking() -> None:
        try:
            while not ended.is_set():
                ask()
        except Exception as error:
            errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=go_on_asking)
    thread.start()
    try:
        for number in range(TIMES):
            change(number)
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(before)
    if errors:
        raise errors[0]
