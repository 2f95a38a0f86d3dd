"""Between the watches and the turns: which federation an event is about, and workers that look at it."""

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import kopf

from segviz_operator.cluster.api.client import ClusterError
from segviz_operator.cluster.objects.jobs import JobSeen
from segviz_operator.cluster.reconcile.queue import WorkQueue
from segviz_operator.cluster.reconcile.reconciler import Reconciler
from segviz_operator.cluster.reconcile.seen import Seen
from segviz_operator.manifests.manifest import Site
from segviz_operator.manifests.problem import InvalidManifest

log = logging.getLogger(__name__)

WORKERS = 12
MOST_DUE = 8
"""Workers that poll; the others are there for what happens."""
SITE_SECONDS = 3.0
"""A site's status gathers what its federations tell in so long."""
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
_SITE = "site/"
"""Before a site's namespace/name, in the queue; a federation's UID has no slash."""


@dataclass
class Indices:
    """What the watches show, kept up to date by kopf."""

    federations: kopf.Index[str, dict[str, Any]]
    """By UID."""
    users: kopf.Index[tuple[str, str], str]
    """UIDs of the federations that name a site, by the site's namespace and name."""
    sites: kopf.Index[tuple[str, str], Site | InvalidManifest]
    jobs: kopf.Index[str, JobSeen]
    """By the federation's UID."""


@dataclass
class Controller:
    reconciler: Reconciler
    queue: WorkQueue = field(default_factory=lambda: WorkQueue(MOST_DUE))
    _seen: dict[str, tuple[object, ...]] = field(default_factory=dict)
    """What was last looked at of each federation: its own status comes back as an event, and is no news."""
    _named: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    """The sites that each federation names: they are told when it lets them go."""
    _ended: dict[str, float] = field(default_factory=dict)
    """When the newest Job of a federation was seen to have ended, or to have gone."""
    _failures: dict[str, int] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(WORKERS, thread_name_prefix="turn")
    )

    def start(self, indices: Indices) -> None:
        self._tasks = [asyncio.create_task(self._work(indices)) for _ in range(WORKERS)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    # --- events -----------------------------------------------------------------------------------

    def federation_changed(self, body: Mapping[str, Any], deleted: bool) -> None:
        metadata = body["metadata"]
        uid = metadata["uid"]
        if deleted:
            self._seen.pop(uid, None)
            self._ended.pop(uid, None)
            self._failures.pop(uid, None)
            self.reconciler.forget(uid)
            self._tell_dropped(uid, set())
        elif self._seen.get(uid) != (news := _news_in(metadata)):
            self._seen[uid] = news
            self._tell_dropped(uid, site_references(body))
            self.queue.add(uid)

    def _tell_dropped(self, uid: str, named: set[tuple[str, str]]) -> None:
        for place in self._named.pop(uid, set()) - named:
            self.queue.add_soon(_site_key(place), SITE_SECONDS)
        if named:
            self._named[uid] = named

    def job_changed(self, uid: str, gone_or_ended: bool) -> None:
        if gone_or_ended:
            # What it wrote before it ended must be seen with its end.
            self._ended[uid] = time.monotonic()
        self.queue.add(uid)

    def site_changed(self, body: Mapping[str, Any], users: list[str], deleted: bool) -> None:
        metadata = body["metadata"]
        place = (metadata["namespace"], metadata["name"])
        news = None if deleted else (metadata["uid"], metadata.get("generation"))
        if self._seen.get(_site_key(place)) == news and news is not None:
            return
        self._seen[_site_key(place)] = news or ()
        for uid in users:
            self.queue.add(uid)
        self.queue.add_soon(_site_key(place), SITE_SECONDS)

    # --- turns ------------------------------------------------------------------------------------

    async def _work(self, indices: Indices) -> None:
        loop = asyncio.get_running_loop()
        while True:
            uid = await self.queue.take()
            again: float | None = None
            try:
                if uid.startswith(_SITE):
                    await self._tell_site(uid, indices)
                elif (seen := self._look(uid, indices)) is not None:
                    done = await loop.run_in_executor(self._threads, self.reconciler.reconcile, seen)
                    again = done.again_seconds
                    if done.told:
                        for place in seen.sites:
                            self.queue.add_soon(_site_key(place), SITE_SECONDS)
                self._failures.pop(uid, None)
            except ClusterError as error:
                again = self._wait_after_failure(uid)
                log.warning("%s; again in %.0f s", error, again)
            except Exception:
                # A bug, or a record of another version: one federation's fault must not stop the others.
                again = self._wait_after_failure(uid)
                log.exception("federation %s: its turn failed; again in %.0f s", uid, again)
            finally:
                self.queue.done(uid, again)

    def _look(self, uid: str, indices: Indices) -> Seen | None:
        """On the event loop, where the indices do not change meanwhile."""
        raw = next(iter(indices.federations.get(uid, ())), None)
        if raw is None:
            return None
        jobs = tuple(indices.jobs.get(uid, ()))
        named = site_references(raw)
        sites = {key: site for key in named for site in indices.sites.get(key, ())}
        return Seen(raw, jobs, sites, self._ended.get(uid, float("-inf")))

    async def _tell_site(self, key: str, indices: Indices) -> None:
        namespace, _, name = key.removeprefix(_SITE).partition("/")
        site = next(iter(indices.sites.get((namespace, name), ())), None)
        users = indices.users.get((namespace, name), ())
        raws = [raw for uid in users for raw in indices.federations.get(uid, ())]
        if isinstance(site, Site):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self.reconciler.tell_site, site, raws)

    def _wait_after_failure(self, uid: str) -> float:
        failures = self._failures.get(uid, 0)
        self._failures[uid] = failures + 1
        return float(min(FIRST_WAIT_SECONDS * 2**failures, LONGEST_WAIT_SECONDS))


def site_references(raw: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Namespace and name of each site that a federation names."""
    spec = raw.get("spec") or {}
    members = (*(spec.get("sites") or ()), *((spec.get("evaluation") or {}).get("sites") or ()))
    return {(each["siteRef"]["namespace"], each["siteRef"]["name"]) for each in members}


def _site_key(place: tuple[str, str]) -> str:
    return f"{_SITE}{place[0]}/{place[1]}"


def _news_in(metadata: Mapping[str, Any]) -> tuple[object, ...]:
    annotations = metadata.get("annotations") or {}
    return (
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        tuple(metadata.get("finalizers") or ()),
        tuple(sorted(annotations.items())),
    )
