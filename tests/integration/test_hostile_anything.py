"""A site that writes whatever its credentials allow, while the others go on (`make simulate`, for long)."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.lies import CONTENTS, PLACES, VALUES, Lie
from simulator.schedule import hostile
from simulator.simulation import simulate

NUMBERS = (0, 1, 2, 3, 4, 9999, 999_999_999_999_999_999)
LIES = st.builds(
    Lie,
    after_seconds=st.floats(0.0, 120.0),
    place=st.sampled_from(PLACES),
    content=st.sampled_from(CONTENTS),
    number=st.sampled_from(NUMBERS),
    attempt=st.integers(0, 4),
    value=st.integers(0, len(VALUES) - 1),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(lies=st.lists(LIES, min_size=1, max_size=12), seed=st.integers(0, 7))
def test_whatever_a_site_writes_the_others_complete_and_it_is_named(lies: list[Lie], seed: int) -> None:
    result = simulate(hostile(tuple(lies), seed))
    assert not result.wrong, "\n".join(result.last)


@pytest.mark.parametrize("place", PLACES)
def test_no_place_and_no_content_holds_up_the_others(place: str) -> None:
    """Each content in its turn, from the first moment on."""
    lies = tuple(
        Lie(9.0, place, content, number % 4, number % 3 + 1, number % len(VALUES))
        for number, content in enumerate(CONTENTS)
    )
    result = simulate(hostile(lies, 1))
    assert not result.wrong, "\n".join(result.last)
