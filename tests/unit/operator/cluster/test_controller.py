"""What is news, whom it concerns, and how long a turn that failed waits for the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from segviz_operator.cluster.api.client import Away
from segviz_operator.cluster.reconcile.controller import SITE_SECONDS, Controller, Indices, site_references
from segviz_operator.cluster.reconcile.queue import WorkQueue
from segviz_operator.cluster.reconcile.reconciler import Done
from segviz_operator.cluster.reconcile.seen import Seen

BASEL, BERN, EXTERNAL = ("basel", "ct"), ("bern", "ct"), ("chur", "ct")


@dataclass
class Turns:
    """Remembers what it was shown, and ends as it is told to."""

    outcomes: Iterator[Done | Exception] = field(default_factory=lambda: iter(()))
    seen: list[Seen] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    def reconcile(self, seen: Seen) -> Done:
        self.seen.append(seen)
        outcome = next(self.outcomes, Done(None, {}))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)


@dataclass
class Watched(WorkQueue):
    """A queue that remembers what was asked of it."""

    added: list[str] = field(default_factory=list)
    soon: list[tuple[str, float]] = field(default_factory=list)
    ended: "asyncio.Queue[float | None]" = field(default_factory=asyncio.Queue)

    def add(self, key: str) -> None:
        self.added.append(key)
        super().add(key)

    def add_soon(self, key: str, seconds: float) -> None:
        self.soon.append((key, seconds))

    def done(self, key: str, again_seconds: float | None) -> None:
        super().done(key, None)
        self.ended.put_nowait(again_seconds)


def federation(generation: int = 1, sites: tuple[tuple[str, str], ...] = (BASEL,), **metadata: Any) -> dict:
    def members(places: tuple[tuple[str, str], ...]) -> list[dict]:
        return [{"siteRef": {"namespace": namespace, "name": name}} for namespace, name in places]

    training = tuple(place for place in sites if place != EXTERNAL)
    spec: dict[str, Any] = {"sites": members(training)}
    if EXTERNAL in sites:
        spec["evaluation"] = {"sites": members((EXTERNAL,))}
    named = {"namespace": "radiology", "name": "abdomen", "uid": "uid-1", "generation": generation}
    return {"metadata": {**named, **metadata}, "spec": spec}


def controller(*outcomes: Done | Exception) -> tuple[Controller, Turns, Watched]:
    turns, queue = Turns(iter(outcomes)), Watched()
    return Controller(turns, queue), turns, queue


def test_its_own_status_that_comes_back_is_no_news():
    told, _, queue = controller()
    told.federation_changed(federation(), False)
    told.federation_changed({**federation(), "status": {"phase": "Training"}}, False)
    assert queue.added == ["uid-1"]


NEWS: dict[str, dict[str, Any]] = {
    "an edit": {"generation": 2},
    "an annotation": {"annotations": {"segviz.dev/retry": "yes"}},
    "a deletion": {"deletionTimestamp": "2026-11-24T12:00:00Z"},
    "a finalizer": {"finalizers": ["segviz.dev/federation"]},
}


@pytest.mark.parametrize("change", NEWS.values(), ids=NEWS)
def test_news_is_looked_at(change: dict[str, Any]):
    told, _, queue = controller()
    told.federation_changed(federation(), False)
    told.federation_changed(federation(**change), False)
    assert queue.added == ["uid-1", "uid-1"]


def test_a_site_that_a_federation_lets_go_is_told():
    told, _, queue = controller()
    told.federation_changed(federation(sites=(BASEL, BERN, EXTERNAL)), False)
    told.federation_changed(federation(2, sites=(BASEL,)), False)
    assert sorted(queue.soon) == [("site/bern/ct", SITE_SECONDS), ("site/chur/ct", SITE_SECONDS)]


def test_of_a_federation_that_is_gone_nothing_is_remembered_and_its_sites_are_told():
    told, turns, queue = controller()
    told.federation_changed(federation(), False)
    told.federation_changed(federation(), True)
    assert (turns.forgotten, queue.soon) == (["uid-1"], [("site/basel/ct", SITE_SECONDS)])
    told.federation_changed(federation(), False)
    assert queue.added == ["uid-1", "uid-1"]


def test_a_site_that_changes_concerns_every_federation_that_names_it():
    told, _, queue = controller()
    site = {"metadata": {"namespace": "basel", "name": "ct", "uid": "s", "generation": 1}}
    for deleted in (False, False, True):
        told.site_changed(site, ["uid-1", "uid-2"], deleted)
    # Once when it came, and once when it went; a status of its own is no news.
    assert queue.added == ["uid-1", "uid-2"] * 2
    assert queue.soon == [("site/basel/ct", SITE_SECONDS)] * 2


def test_every_site_that_is_named_is_referred_to():
    assert site_references(federation(sites=(BASEL, EXTERNAL))) == {BASEL, EXTERNAL}
    assert site_references({}) == set()


def at_work(told: Controller, raw: dict | None, act: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        federations = {} if raw is None else {"uid-1": [raw]}
        told.start(Indices(federations, {}, {BASEL: ["a site"]}, {"uid-1": ["a job"]}))
        try:
            await act()
        finally:
            await told.stop()

    asyncio.run(run())


def test_a_turn_sees_what_the_watches_show():
    told, turns, queue = controller()

    async def act() -> None:
        told.job_changed("uid-1", gone_or_ended=False)
        await queue.ended.get()
        told.job_changed("uid-1", gone_or_ended=True)
        await queue.ended.get()

    at_work(told, federation(sites=(BASEL, BERN)), act)
    before, after = turns.seen
    assert (before.jobs, before.sites) == (("a job",), {BASEL: "a site"})
    assert before.newer_than == float("-inf") < after.newer_than


def test_one_that_is_gone_gets_no_turn():
    told, turns, queue = controller()

    async def act() -> None:
        told.job_changed("uid-1", gone_or_ended=True)
        assert await queue.ended.get() is None

    at_work(told, None, act)
    assert turns.seen == []


def test_a_turn_says_when_the_next_one_is_due_and_its_sites_hear_of_a_new_status():
    told, _, queue = controller(Done(10.0, {}, told=True))

    async def act() -> None:
        queue.add("uid-1")
        assert await queue.ended.get() == 10.0

    at_work(told, federation(), act)
    assert queue.soon == [("site/basel/ct", SITE_SECONDS)]


@pytest.mark.parametrize("fault", [Away("no answer"), ValueError("a bug")])
def test_turns_that_fail_wait_twice_as_long_each_time_until_one_goes_well(fault: Exception):
    told, _, queue = controller(*[fault] * 8, Done(None, {}), fault)
    waits = []

    async def act() -> None:
        for _ in range(10):
            queue.add("uid-1")
            waits.append(await queue.ended.get())

    at_work(told, federation(), act)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, None, 1]
