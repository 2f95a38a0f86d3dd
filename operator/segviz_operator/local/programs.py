"""The command line of each role, the same in a Pod and as a process."""

import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_operator.local.identity import Identity
from segviz_operator.local.workdir import WorkDir
from segviz_operator.machine.writing import write_whole
from segviz_operator.plan.workload import SITE_TASKS, WorkloadRole

Words = tuple[str, ...]


@dataclass(frozen=True)
class Programs:
    """What to run; a test puts its own programs here that speak the same records."""

    aggregator: Words = (sys.executable, "-m", "segviz_aggregator")
    trainer: Words = (sys.executable, "-m", "segviz_trainer")


@dataclass(frozen=True)
class Place:
    """A site on this machine."""

    alias: str
    spec: SiteSpec
    data_root: Path


def command(
    programs: Programs,
    workdir: WorkDir,
    identity: Identity,
    role: WorkloadRole,
    place: Place | None,
    poll_seconds: float,
) -> Words:
    store = ("--store", identity.store, "--prefix", identity.prefix, "--stop-on-stdin-eof")
    poll = ("--poll-seconds", str(poll_seconds))
    scratch = ("--scratch", str(workdir.scratch(role.lower())))
    match role:
        case WorkloadRole.AGGREGATOR:
            return (*programs.aggregator, *store, *scratch, *poll)
        case WorkloadRole.EXPORT:
            return (*programs.trainer, "export", *store, *scratch, "--output", str(workdir.models))
        case WorkloadRole.TRAINER:
            return (*programs.trainer, SITE_TASKS[role], *store, *_site(workdir, place), *poll)
        case WorkloadRole.EVALUATION:
            return (*programs.trainer, SITE_TASKS[role], *store, *_site(workdir, place))


def _site(workdir: WorkDir, place: Place | None) -> Words:
    assert place is not None, "these roles belong to a site"
    state = workdir.state(place.alias)
    state.mkdir(parents=True, exist_ok=True)
    file = state / "site.json"
    write_whole(file, msgspec.json.format(msgspec.json.encode(place.spec)) + b"\n")
    return (
        *("--site", place.alias, "--site-spec", str(file)),
        *("--data-root", str(place.data_root), "--state", str(state)),
    )
