"""Sites outside: nobody here starts or stops them. They are seen by what they write, and are left their next
credentials before the old ones expire."""

from collections.abc import Callable, Mapping
from datetime import datetime

from segviz_exchange.contract import keys
from segviz_exchange.contract.records import Phase
from segviz_exchange.contract.spec import SiteSpec
from segviz_exchange.process.exits import Exit
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.store import Store
from segviz_operator.access.sts import hand_over, is_due, newest_remote
from segviz_operator.plan.workload import Workload, WorkloadState, role_at
from segviz_operator.progress.observe import FederationRecords


def remote_workloads(sites: Mapping[str, SiteSpec], records: FederationRecords) -> tuple[Workload, ...]:
    """What runs at the remote ones of these sites, as far as their heartbeats tell.

    One that says it has refused is left out for that reason until it joins again. One that says nothing is
    awaited, as `participation` allows.
    """
    return tuple(_workload(alias, site, records) for alias, site in sorted(sites.items()) if site.remote)


def _workload(alias: str, site: SiteSpec, records: FederationRecords) -> Workload:
    facts = records.sites.get(alias)
    beat = facts.heartbeat.progress if facts and facts.heartbeat else None
    role = role_at(site)
    if beat is not None and beat.phase is Phase.FAILED:
        return Workload(
            role,
            alias,
            attempt=beat.lease,
            state=WorkloadState.FAILED,
            exit_code=Exit.REFUSED,
            message=beat.message,
            remote=True,
        )
    return Workload(role, alias, attempt=0 if beat is None else beat.lease, remote=True)


def renew(
    store: Store, alias: str, mint: Callable[[], Credentials], lifetime_seconds: int, now: datetime
) -> Credentials | None:
    """Leave a remote site its next credentials if they are due; returns what was left.

    Those that never expire are due when whoever gives them out has changed them. The ones before the last
    go: a key that nobody will use any more should not lie about.
    """
    number, newest = newest_remote(store, alias)
    if newest is not None and newest.expiration and not is_due(newest, lifetime_seconds, now):
        return None
    fresh = mint()
    if fresh == newest:
        return None
    hand_over(store, alias, number + 1, fresh)
    if number > 1:
        store.delete(keys.credential(alias, number - 1))
    return fresh
