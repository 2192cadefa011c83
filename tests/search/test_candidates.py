"""What a search may propose."""

import random
from pathlib import Path

from nas.architecture import ImageInput
from nas.search.candidates import Candidates
from nas.space import Limits, load_space

DIGITS = ImageInput(channels=1, height=8, width=8, classes=10)
LIMITS = Limits(max_parameters=5_000_000)


def test_unseen_designs_are_found_to_the_last(tiny_space: Path) -> None:
    space = load_space(tiny_space, DIGITS)
    every = {space.architecture(*design).key for design in space.designs(LIMITS)}
    candidates = Candidates(space, LIMITS)
    seen: set[str] = set()
    while candidates.any_unseen(seen):
        found = candidates.draw_unseen(seen, random.Random(len(seen)), LIMITS)
        assert found is not None
        key = candidates.candidate(found).key
        assert key in every - seen
        seen.add(key)
    assert seen == every
    assert candidates.draw_unseen(seen, random.Random(0), LIMITS) is None
