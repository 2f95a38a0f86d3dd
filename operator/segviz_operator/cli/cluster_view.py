"""`segviz status -n NAMESPACE NAME` and `segviz logs`: what the operator tells, and what the Pods say."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segviz_exchange.process.errors import Refusal
from segviz_operator.cluster.api.client import FEDERATIONS, JOBS, PODS, Away, Cluster, ClusterError, Missing
from segviz_operator.cluster.api.connection import connect
from segviz_operator.cluster.api.names import FEDERATION_UID, Subject
from segviz_operator.cluster.membership.provenance import homes_of, is_in_place
from segviz_operator.cluster.objects.jobs import JobSeen, job_seen, newest
from segviz_operator.cluster.status import conditions as c
from segviz_operator.plan.workload import workload_name
from segviz_operator.progress.crowd import MANY, named, worst_first
from segviz_operator.progress.durations import duration
from segviz_operator.terminal.screen import how_many

WATCH_SECONDS = 2.0

Object = Mapping[str, Any]


def print_federation(
    namespace: str, name: str, watch: bool, as_json: bool, console: Console, pattern: str | None = None
) -> None:
    """
    Args:
        pattern: shows the sites of this name alone; else as many as fit a screen.

    Raises Refusal where it is not there, or the cluster does not answer.
    """
    cluster = Cluster(connect())
    found = read_federation(cluster, namespace, name)
    if as_json:
        console.print_json(data=found.get("status") or {}, ensure_ascii=True)
        return
    if not watch:
        console.print(render_federation(found, pattern))
        return
    with Live(render_federation(found, pattern), console=console, auto_refresh=False) as live:
        while not _has_ended(found):
            time.sleep(WATCH_SECONDS)
            try:
                found = _read(cluster, namespace, name)
                live.update(render_federation(found, pattern), refresh=True)
            except Away as error:
                live.update(
                    Group(render_federation(found, pattern), Text(f"{error}; trying again")), refresh=True
                )


def read_federation(cluster: Cluster, namespace: str, name: str) -> Object:
    """Raises Refusal where it is not there, or the cluster does not answer."""
    try:
        return _read(cluster, namespace, name)
    except Away as error:
        raise Refusal(f"the cluster: {error}") from error


def _read(cluster: Cluster, namespace: str, name: str) -> Object:
    """Raises Away, or Refusal."""
    try:
        found = cluster.get(FEDERATIONS, namespace, name)
    except Away:
        raise
    except ClusterError as error:
        raise Refusal(f"the cluster: {error}") from error
    if found is None:
        raise Refusal(f"there is no SegVizFederation {namespace}/{name}. List them with: kubectl get svf -A")
    return found


def render_federation(found: Object, pattern: str | None = None) -> RenderableType:
    metadata, status = found["metadata"], found.get("status") or {}
    rounds = found["spec"].get("rounds", 0)
    eta = f", ETA {duration(status['etaSeconds'])}" if "etaSeconds" in status else ""
    dice = ""
    if "meanDice" in status:
        dice = f", mean Dice {status['meanDice']} (best round: {status['bestRound']})"
    headline = (
        f"{metadata['namespace']}/{metadata['name']}: {status.get('phase', 'not seen by an operator yet')}, "
        f"round {status.get('currentRound', '–')}/{rounds}{dice}{eta}"
    )
    lines: list[RenderableType] = [Text(headline, style="bold")]
    lines += [Text(line) for line in _worries(status)]
    table = Table("site", "phase", "round", "epoch", "Dice", "ETA", "heard", "message", box=None)
    sites = status.get("sites") or ()
    shown = worst_first(sites, _phase)[:MANY] if pattern is None else _named(sites, pattern)
    for site in shown:
        table.add_row(
            site["alias"],
            site.get("phase", ""),
            str(site.get("round", "")),
            str(site.get("epoch", "")),
            _dice(site),
            duration(site["etaSeconds"]) if "etaSeconds" in site else "",
            site.get("lastHeartbeatTime", "")[11:19],
            site.get("message", ""),
        )
    externals = status.get("evaluation") or ()
    for site in externals if pattern is None else _named(externals, pattern):
        table.add_row(site["alias"], "external", "", "", _dice(site), "", "", site.get("message", ""))
    lines.append(table)
    if len(shown) < len(sites):
        lines.append(Text(how_many([_phase(site) for site in sites], len(shown), pattern), style="dim"))
    return Group(*lines)


def _named(sites: Sequence[Object], pattern: str) -> list[Object]:
    return [site for site in worst_first(sites, _phase) if named(site["alias"], pattern)]


def _phase(site: Object) -> str:
    return str(site.get("phase", ""))


def _worries(status: Object) -> Iterator[str]:
    for type_, bad in ((c.ACCEPTED, "False"), (c.DEGRADED, "True"), (c.FAILED, "True")):
        found = c.condition_of(status, type_)
        if found is not None and found["status"] == bad:
            yield f"{'not ' if bad == 'False' else ''}{type_.lower()}: {found['reason']}: {found['message']}"


def _dice(site: Object) -> str:
    return ", ".join(f"{organ} {value}" for organ, value in sorted((site.get("dice") or {}).items()))


def _has_ended(found: Object) -> bool:
    status = found.get("status") or {}
    return c.holds(status, c.COMPLETE) or c.holds(status, c.FAILED)


# --- logs -------------------------------------------------------------------------------------------


def print_logs(namespace: str, name: str, alias: str | None, tail: int, console: Console) -> None:
    """Raises Refusal where there is nothing to read, or no right to."""
    cluster = Cluster(connect())
    found = read_federation(cluster, namespace, name)
    jobs = [job for job in _jobs(cluster, found) if alias is None or job.site == alias]
    if not jobs:
        whose = f"of {alias} " if alias else ""
        raise Refusal(f"{namespace}/{name}: no Job {whose}found. Check: segviz status -n {namespace} {name}")
    for job in jobs:
        title = f"==> {workload_name(job.role, job.site)}, attempt {job.attempt} ({job.namespace}/{job.name})"
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        for line in _lines(cluster, job, tail):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _jobs(cluster: Cluster, found: Object) -> tuple[JobSeen, ...]:
    spec, own = found["spec"], found["metadata"]["namespace"]
    members = (*spec["sites"], *((spec.get("evaluation") or {}).get("sites") or ()))
    seen: list[JobSeen] = []
    for place in sorted({own, *(each["siteRef"]["namespace"] for each in members)}):
        try:
            jobs = cluster.list(JOBS, place, labelSelector=f"{FEDERATION_UID}={found['metadata']['uid']}")
        except ClusterError:
            continue  # a coordinator may well have no right in a site's namespace
        seen += [job for each in jobs if (job := job_seen(each)) is not None]
    subject, homes = Subject.of(found), homes_of(found)
    return newest(job for job in seen if is_in_place(job, subject, homes))


def _lines(cluster: Cluster, job: JobSeen, tail: int) -> Iterator[str]:
    try:
        pods = cluster.list(PODS, job.namespace, labelSelector=f"batch.kubernetes.io/job-name={job.name}")
        for pod in pods:
            yield from cluster.logs(job.namespace, pod["metadata"]["name"], tailLines=str(tail)).splitlines()
        if not pods:
            yield "(its Pod does not exist)"
    except Missing:
        yield "(its Pod has just gone)"
    except ClusterError as error:
        yield f"({error})"
