"""How long a process waits: a matter of arithmetic, with a clock that a test turns."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segviz_exchange.process.pace import LEAST_SECONDS, MOST_SECONDS, SHARE, Pace
from segviz_exchange.process.waiting import Silence, Waiting

HOUR = 3600.0
seconds = st.floats(0.0, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("waited", "expected"), [(0.0, 0.1), (5.0, 0.1), (10.0, 0.1), (60.0, 0.6), (300.0, 3.0), (HOUR, 5.0)]
)
def test_a_pause_is_a_hundredth_of_the_time_waited(waited: float, expected: float) -> None:
    assert Pace().pause(waited) == pytest.approx(expected)


def test_what_is_due_ends_a_pause() -> None:
    assert Pace().pause(HOUR, due=1.5) == 1.5


@pytest.mark.parametrize("due", [0.0, -3.0])
def test_what_is_overdue_does_not_make_a_process_spin(due: float) -> None:
    assert Pace().pause(0.0, due=due) == LEAST_SECONDS


def test_a_slow_store_is_asked_for_a_fifth_of_the_time_at_most() -> None:
    assert Pace().pause(0.0, look=0.5) == 2.0


def test_a_store_that_was_away_during_a_look_is_asked_again_soon() -> None:
    assert Pace().pause(60.0, look=60.0) == MOST_SECONDS


def test_whoever_asks_for_a_short_interval_gets_it() -> None:
    assert Pace(most_seconds=0.05).pause(HOUR) == 0.05


@given(waited=seconds, look=st.floats(0.0, 100.0), due=st.none() | seconds)
def test_a_pause_always_ends_and_never_spins(waited: float, look: float, due: float | None) -> None:
    pause = Pace().pause(waited, look, due)
    assert 0.0 < pause <= MOST_SECONDS


@given(waited=st.floats(10.0, 500.0))
def test_a_record_is_seen_within_a_hundredth_of_the_time_that_it_was_waited_for(waited: float) -> None:
    assert Pace().pause(waited) <= SHARE * waited + 1e-9


def looks_within(limit: float) -> int:
    pace, waited, looks = Pace(), 0.0, 0
    while waited < limit:
        waited += pace.pause(waited)
        looks += 1
    return looks


def test_looks_grow_with_the_logarithm_of_the_time() -> None:
    """A site looked once a second before, with six requests; a look is one now."""
    assert looks_within(60.0) < 300 < 60 * 6
    assert looks_within(HOUR) - looks_within(HOUR - 60.0) <= 13


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Sleep:
    """Sleeper and alarm: time passes by itself, and each wait ends as a test says."""

    clock: Clock
    wakes: list[bool] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    requested: bool = False

    def wait(self, seconds: float, over: Callable[[], bool] = bool) -> bool:
        self.slept.append(round(seconds, 3))
        self.clock.now += seconds
        return self.wakes.pop(0) if self.wakes else False


def waiting(sleep: Sleep) -> Waiting:
    return Waiting(Pace(), sleep, sleep, sleep.clock)


def test_pauses_grow_while_nothing_happens() -> None:
    clock = Clock()
    process = waiting(sleep := Sleep(clock))
    process.pause()
    clock.now += HOUR - 1.0
    process.moved()
    process.pause()
    assert sleep.slept == [0.1, 0.1]
    clock.now = 2 * HOUR
    process.moved()
    clock.now += 100.0
    process.pause()
    assert sleep.slept[-1] == 1.0


def test_what_wakes_a_process_makes_it_look_often_again() -> None:
    clock = Clock()
    process = waiting(sleep := Sleep(clock, wakes=[True]))
    clock.now = 200.0
    assert process.pause()
    assert not process.pause()
    assert sleep.slept == [2.0, 0.1]


def test_the_time_of_a_look_is_what_passes_between_two_pauses() -> None:
    clock = Clock()
    process = waiting(sleep := Sleep(clock))
    process.pause()
    clock.now += 1.0
    process.pause()
    assert sleep.slept == [0.1, 4.0]


def test_work_is_no_look() -> None:
    clock = Clock()
    process = waiting(sleep := Sleep(clock))
    process.pause()
    clock.now += HOUR  # a round was trained
    process.moved()
    process.pause()
    assert sleep.slept == [0.1, 0.1]


def test_a_silent_store_s_wait_ends_with_what_it_was_for() -> None:
    sleep = Sleep(Clock())
    answers = iter([False, False, True])
    assert Silence(sleep).wait(HOUR, lambda: next(answers)) is False
    assert len(sleep.slept) == 2
