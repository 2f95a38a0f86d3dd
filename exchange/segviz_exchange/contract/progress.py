"""What a process says of itself: what it found before it began, and what it does now."""

from enum import StrEnum

from segviz_exchange.contract.records import Count, Number, Real, Record, Seconds


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

    lease: Number
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

    lease: Number
    phase: Phase
    message: str = ""
    round: Count | None = None
    epoch: Count | None = None
    step: Count | None = None
    steps: Count | None = None
    """In this epoch."""
    loss: Real | None = None
    samples_per_second: Real | None = None
    epoch_seconds: Seconds | None = None
