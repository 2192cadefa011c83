"""Draws: each class by its share, the same for ever."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas.data.split import Purpose, draw, validation_share


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**40),
    purpose=st.sampled_from(Purpose),
)
def test_a_draw_takes_its_share_of_each_class(
    labels: list[int], share: float, seed: int, purpose: Purpose
) -> None:
    array = np.array(labels, dtype=np.int64)
    drawn = draw(array, share, seed=seed, purpose=purpose)
    assert np.array_equal(drawn, draw(array, share, seed=seed, purpose=purpose))
    for label in set(labels):
        count = int(np.sum(array == label))
        taken = int(np.sum(drawn & (array == label)))
        assert taken >= 1
        assert taken == 1 or abs(taken - share * count) <= 0.5 + 1e-9
        if count >= 2 and share <= 0.2:
            assert taken < count


def test_a_draw_is_the_same_for_ever() -> None:
    labels = np.arange(20) % 2
    drawn = draw(labels, 0.3, seed=7, purpose=Purpose.VALIDATION)
    assert np.flatnonzero(drawn).tolist() == [1, 2, 3, 10, 11, 18]
    assert len({draw(labels, 0.3, seed=7, purpose=p).tobytes() for p in Purpose}) == 3


def test_validation_is_a_tenth_of_many_and_a_fifth_of_few() -> None:
    assert validation_share(20_000) == 0.1
    assert validation_share(19_999) == 0.2
    labels = np.repeat(np.arange(10), 5000)
    drawn = draw(labels, validation_share(len(labels)), seed=0, purpose=Purpose.VALIDATION)
    assert np.bincount(labels[drawn]).tolist() == [500] * 10
