"""Which federations are looked at: each once at a time, and again if something happens meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

from segviz_operator.cluster.reconcile.queue import EVENTS_IN_A_ROW, WorkQueue

LATER = 3600.0


def on_a_loop(act: Callable[[WorkQueue], Awaitable[None]]) -> None:
    async def run() -> None:
        await act(WorkQueue())

    asyncio.run(run())


async def let_timers_fire() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_what_is_added_twice_is_taken_once():
    async def act(queue: WorkQueue) -> None:
        queue.add("abdomen")
        queue.add("abdomen")
        assert await queue.take() == "abdomen"
        assert len(queue) == 0

    on_a_loop(act)


def test_they_are_taken_in_the_order_in_which_they_came():
    async def act(queue: WorkQueue) -> None:
        for key in ("abdomen", "thorax", "pelvis"):
            queue.add(key)
        assert [await queue.take() for _ in range(3)] == ["abdomen", "thorax", "pelvis"]

    on_a_loop(act)


def test_who_takes_from_an_empty_queue_waits_for_news():
    async def act(queue: WorkQueue) -> None:
        waiting = asyncio.ensure_future(queue.take())
        await let_timers_fire()
        assert not waiting.done()
        queue.add("abdomen")
        assert await waiting == "abdomen"

    on_a_loop(act)


def test_what_happens_to_a_busy_one_brings_it_again_when_it_is_done_and_not_before():
    async def act(queue: WorkQueue) -> None:
        queue.add("abdomen")
        await queue.take()
        queue.add("abdomen")
        queue.add("abdomen")
        assert len(queue) == 0
        queue.done("abdomen", LATER)
        assert len(queue) == 1
        assert await queue.take() == "abdomen"
        queue.done("abdomen", None)
        assert len(queue) == 0

    on_a_loop(act)


def test_one_that_is_done_comes_again_when_it_asked_for_it():
    async def act(queue: WorkQueue) -> None:
        queue.add("abdomen")
        await queue.take()
        queue.done("abdomen", 0.0)
        await let_timers_fire()
        assert len(queue) == 1
        assert await queue.take() == "abdomen"

    on_a_loop(act)


def test_an_event_does_not_wait_for_the_timer_and_stops_it():
    async def act(queue: WorkQueue) -> None:
        queue.add_after("abdomen", 0.0)
        queue.add("abdomen")
        assert await queue.take() == "abdomen"
        queue.done("abdomen", None)
        await let_timers_fire()
        assert len(queue) == 0

    on_a_loop(act)


def test_a_new_timer_takes_the_place_of_the_old_one():
    async def act(queue: WorkQueue) -> None:
        queue.add_after("abdomen", 0.0)
        queue.add_after("abdomen", LATER)
        await let_timers_fire()
        assert len(queue) == 0

    on_a_loop(act)


def test_what_is_to_come_soon_is_put_off_by_nothing():
    async def act(queue: WorkQueue) -> None:
        queue.add_soon("site/basel/ct", 0.0)
        queue.add_soon("site/basel/ct", LATER)
        await let_timers_fire()
        assert len(queue) == 1
        assert await queue.take() == "site/basel/ct"

    on_a_loop(act)


def test_what_waits_already_needs_no_timer():
    async def act(queue: WorkQueue) -> None:
        queue.add("site/basel/ct")
        queue.add_soon("site/basel/ct", 0.0)
        await queue.take()
        queue.done("site/basel/ct", None)
        await let_timers_fire()
        assert len(queue) == 0

    on_a_loop(act)


def test_what_happens_goes_before_what_has_come_due():
    async def act(queue: WorkQueue) -> None:
        queue.add_after("abdomen", 0.0)
        queue.add_after("thorax", 0.0)
        await let_timers_fire()
        queue.add("pelvis")
        queue.add("thorax")  # due, and something happens to it
        assert [await queue.take() for _ in range(3)] == ["pelvis", "thorax", "abdomen"]
        assert len(queue) == 0

    on_a_loop(act)


def test_what_has_come_due_gets_its_turn_though_events_do_not_end():
    async def act(queue: WorkQueue) -> None:
        queue.add_after("abdomen", 0.0)
        await let_timers_fire()
        for number in range(EVENTS_IN_A_ROW + 1):
            queue.add(f"event-{number}")
        taken = [await queue.take() for _ in range(EVENTS_IN_A_ROW + 2)]
        assert taken[EVENTS_IN_A_ROW] == "abdomen"

    on_a_loop(act)


def test_who_works_keeps_somebody_free_for_events():
    async def act(queue: WorkQueue) -> None:
        queue.most_due = 1
        for key in ("abdomen", "thorax"):
            queue.add_after(key, 0.0)
        await let_timers_fire()
        assert await queue.take() == "abdomen"
        waiting = asyncio.ensure_future(queue.take())
        await let_timers_fire()
        assert not waiting.done()
        queue.add("pelvis")
        assert await waiting == "pelvis"
        waiting = asyncio.ensure_future(queue.take())
        queue.done("abdomen", None)
        assert await waiting == "thorax"

    on_a_loop(act)
