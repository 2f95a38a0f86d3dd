"""What is made side by side comes in order, and nobody who leaves waits for it."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from segviz_exchange.process.ahead import side_by_side

PATIENCE_SECONDS = 30


def number(value: int) -> int:
    return value


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_items_come_in_their_makers_order(count: int) -> None:
    makers = [partial(number, value) for value in range(count)]
    assert list(side_by_side(makers, workers=3, name="test")) == list(range(count))


def test_as_many_run_at_once_as_there_are_workers() -> None:
    together = threading.Barrier(3)
    makers = [partial(together.wait, PATIENCE_SECONDS)] * 3
    assert sorted(side_by_side(makers, workers=3, name="test")) == [0, 1, 2]


def test_no_more_are_begun_than_there_are_workers() -> None:
    taken = []

    def watched() -> Iterator[Callable[[], int]]:
        for value in range(20):
            assert value - len(taken) <= 3
            yield partial(number, value)

    for value in side_by_side(watched(), workers=3, name="test"):
        taken.append(value)
    assert len(taken) == 20


def test_who_meets_an_error_does_not_wait_for_the_others() -> None:
    release = threading.Event()

    def fail() -> bool:
        raise OSError("the store is away")

    items = side_by_side([fail, partial(release.wait, PATIENCE_SECONDS)], workers=2, name="slow")
    with pytest.raises(OSError, match="the store is away"):
        next(items)
    slow = [thread for thread in threading.enumerate() if thread.name == "slow"]
    assert [thread.daemon for thread in slow] == [True]
    release.set()
    slow[0].join(PATIENCE_SECONDS)
