"""The pauses between tries."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shipper.delivery.backoff import ASKED_PAUSE_MAX, Backoff


def test_pauses_double_up_to_the_longest_and_start_again_after_success() -> None:
    """Without jitter the sequence is exact."""
    backoff = Backoff(0.5, 30.0, random=lambda: 1.0)
    assert [backoff.pause() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    backoff.succeeded()
    assert backoff.pause() == 0.5


@given(randoms=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=200))
def test_pauses_keep_within_their_bounds_for_ever(randoms) -> None:
    """Each pause is between half and all of its step, however often it failed before; there is no give-up."""
    numbers = iter(randoms)
    backoff = Backoff(0.5, 30.0, random=lambda: next(numbers))
    step = 0.5
    for _ in randoms:
        assert step / 2 <= backoff.pause() <= step
        step = min(30.0, 2 * step)


def test_jitter_spreads_the_pauses() -> None:
    """Many nodes that lost the same collector do not come back in step."""
    pauses = {Backoff(8.0, 30.0).pause() for _ in range(50)}
    assert len(pauses) > 40


def test_a_wish_of_the_collector_is_kept_and_jittered_upwards() -> None:
    """Never sooner than asked; a senseless wish is cut to an hour."""
    backoff = Backoff(1.0, 30.0)
    pauses = [backoff.pause(asked=60.0) for _ in range(20)]
    assert all(60.0 <= pause <= 75.0 for pause in pauses)
    assert any(first != second for first, second in pairwise(pauses))
    assert Backoff(1.0, 30.0).pause(asked=1e12) <= ASKED_PAUSE_MAX + 1
