"""What a process says of itself: what it found before it began, and what it does now."""

from enum import StrEnum

from segviz_exchange.contract.records import Record


class Severity(StrEnum):
    INFO = "Info"
    WARNING = "Warning"
    """People should know; training goes on."""
    ERROR = "Error"
    """The site takes no part until it is mended."""


class Finding(Record, frozen=True):
    """One thing that was looked at before training."""

    check: str
    """Limits, Data, Disk, Bandwidth, Clock or GPU."""
    severity: Severity
    message: str


class Preflight(Record, frozen=True):
    """What one incarnation of a site found before it began."""

    lease: int
    findings: tuple[Finding, ...]


class Phase(StrEnum):
    PREPARING = "Preparing"
    WAITING = "Waiting"
    MERGING = "Merging"
    SCORING = "Scoring"
    TRAINING = "Training"
    FINE_TUNING = "FineTuning"
    TESTING = "Testing"
    DONE = "Done"
    FAILED = "Failed"


class Progress(Record, frozen=True):
    """A heartbeat: what a process does now. The only record that is replaced."""

    lease: int
    phase: Phase
    message: str = ""
    round: int | None = None
    epoch: int | None = None
    step: int | None = None
    steps: int | None = None
    """In this epoch."""
    loss: float | None = None
    samples_per_second: float | None = None
    epoch_seconds: float | None = None
