"""A workload: one attempt of one role at running, as a Job in a cluster or a process on one machine."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from segviz_exchange.contract.choices import Role
from segviz_exchange.contract.site_spec import SiteSpec


class WorkloadRole(StrEnum):
    AGGREGATOR = "Aggregator"
    TRAINER = "Trainer"
    EXPORT = "Export"
    EVALUATION = "Evaluation"


SITE_TASKS = {WorkloadRole.TRAINER: "participate", WorkloadRole.EVALUATION: "evaluate"}
"""The trainer's command for what runs at a site."""


class WorkloadState(StrEnum):
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True)
class Workload:
    """The newest attempt of a role; a body forgets an attempt when it makes the next one.

    What `decide` must know to decide about the next attempt was told to this one when it was created
    (`failures`, `milestone`), so that nothing has to be remembered anywhere else.
    """

    role: WorkloadRole
    site: str | None
    """Alias; none for the aggregator and the export."""
    attempt: int
    failures: int = 0
    """Attempts before this one that failed in a row without progress."""
    milestone: int = 0
    """How far the role had come when this attempt was created."""
    state: WorkloadState = WorkloadState.RUNNING
    exit_code: int | None = None
    """Negative for a signal; none while it runs."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    message: str = ""
    """The last thing it said, for people."""
    remote: bool = False
    """It runs outside, and is known by its records alone: nobody here starts or stops it."""
    settled: bool = False
    """Its Pod has run for so long that it should have been heard of."""
    stuck: str = ""
    """In one word why it does not run, where it should and has not been able to for long."""

    @property
    def name(self) -> str:
        return workload_name(self.role, self.site)

    @property
    def running(self) -> bool:
        return self.state is WorkloadState.RUNNING


def role_at(site: SiteSpec) -> WorkloadRole:
    """What runs there."""
    return WorkloadRole.TRAINER if site.role is Role.TRAINING else WorkloadRole.EVALUATION


def workload_name(role: WorkloadRole, site: str | None) -> str:
    return role.lower() if site is None else f"{role.lower()}-{site}"
