"""Sites outside: nobody here starts or stops them; they are seen by what they write."""

from collections.abc import Mapping

from segviz_exchange.contract.progress import Phase
from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.process.exits import Exit
from segviz_operator.plan.workload import Workload, WorkloadState, role_at
from segviz_operator.progress.facts import FederationRecords


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
