"""Batches made ahead come as if they were made when asked for, and leave no thread behind."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
import torch

from segviz_trainer.batches.prefetch import Prefetch

PATIENCE_SECONDS = 30
WAYS = [Prefetch(workers=1, ahead=1), Prefetch(workers=3, ahead=5), Prefetch(workers=4, ahead=2)]


def number(value: int) -> int:
    return value


def numbers(count: int) -> list[Callable[[], int]]:
    return [partial(number, value) for value in range(count)]


def threads_of_batches() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_items_come_in_their_makers_order(way: Prefetch, count: int) -> None:
    assert list(way.run(numbers(count))) == list(range(count))


def test_an_item_that_is_late_is_waited_for_and_not_overtaken() -> None:
    """The first can only be made after the last: so all are in the making at once, and the order holds."""
    last_made = threading.Event()

    def first() -> int:
        assert last_made.wait(PATIENCE_SECONDS)
        return 0

    def last() -> int:
        last_made.set()
        return 2

    assert list(Prefetch(workers=3, ahead=2).run([first, partial(number, 1), last])) == [0, 1, 2]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_no_more_are_begun_than_the_bound_allows(way: Prefetch) -> None:
    taken = []

    def watched() -> Iterator[Callable[[], int]]:
        for value in range(30):
            # Begun and not yet with the caller; one of them is what the caller waits for now.
            assert value - len(taken) <= way.ahead
            yield partial(number, value)

    for value in way.run(watched()):
        taken.append(value)
    assert len(taken) == 30


def test_the_next_is_made_while_the_caller_works() -> None:
    made = [threading.Event() for _ in range(3)]
    with closing(Prefetch(workers=1, ahead=1).run([event.set for event in made])) as items:
        next(items)
        assert made[1].wait(PATIENCE_SECONDS)


def test_an_error_is_raised_where_its_item_is_asked_for() -> None:
    def fail() -> int:
        raise OSError("image.npy: no such file")

    items = Prefetch(workers=2, ahead=3).run([*numbers(2), fail, *numbers(9)])
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OSError, match=r"image\.npy"):
        next(items)
    assert not threads_of_batches()


def test_leaving_early_leaves_no_thread_and_begins_nothing_more() -> None:
    begun = []
    with closing(Prefetch(workers=2, ahead=4).run(partial(begun.append, n) for n in range(50))) as items:
        next(items)
    assert not threads_of_batches()
    assert len(begun) <= 5


def test_the_end_leaves_no_thread() -> None:
    list(Prefetch(workers=2, ahead=4).run(numbers(9)))
    assert not threads_of_batches()


def test_beside_a_cpus_step_one_thread_makes_one_batch_ahead() -> None:
    assert Prefetch.beside(torch.device("cpu")) == Prefetch(workers=1, ahead=1)
