"""Each role as a process of this machine."""

import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.process.writing import PRIVATE, write_whole
from segviz_operator.local.identity import Identity
from segviz_operator.local.workdir import WorkDir
from segviz_operator.plan.command_line import (
    AS_A_CHILD,
    Records,
    RunFolders,
    SiteFolders,
    Words,
    command_line,
    module_of,
)
from segviz_operator.plan.workload import WorkloadRole


@dataclass(frozen=True)
class Programs:
    """What to run; a test puts its own programs here that speak the same records."""

    aggregator: Words = (sys.executable, "-m", module_of(WorkloadRole.AGGREGATOR))
    trainer: Words = (sys.executable, "-m", module_of(WorkloadRole.TRAINER))

    def of(self, role: WorkloadRole) -> Words:
        return self.aggregator if role is WorkloadRole.AGGREGATOR else self.trainer


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
    folders = (
        RunFolders(str(workdir.scratch(role.lower())), str(workdir.models))
        if place is None
        else _site_folders(workdir, place)
    )
    records = Records(identity.store, identity.prefix)
    return (*programs.of(role), *command_line(role, records, folders, poll_seconds), *AS_A_CHILD)


def _site_folders(workdir: WorkDir, place: Place) -> SiteFolders:
    state = workdir.state(place.alias)
    state.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    file = state / "site.json"
    write_whole(file, msgspec.json.format(msgspec.json.encode(place.spec)) + b"\n")
    return SiteFolders(place.alias, str(file), str(place.data_root), str(state))
