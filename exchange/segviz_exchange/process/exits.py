"""What a process says by ending: the operator and the runner act on these codes alone."""

from enum import IntEnum


class Exit(IntEnum):
    DONE = 0
    """The federation's work for this process is finished; do not start it again."""
    RETRY = 1
    """Something outside gave up, or a bug: start it again, later each time. Python's own code for a crash."""
    REFUSED = 2
    """A mistake that a person must mend; starting it again would end the same. Click's own code for usage."""
    SUPERSEDED = 3
    """A newer incarnation of the same site has taken the lease, and goes on in this one's place."""
    IDLE = 4
    """It has delivered and has waited for others as long as its site wants: start it again for more work."""
    STOPPED = 75
    """It was asked to stop and has lost nothing: start it again when wanted. EX_TEMPFAIL of sysexits.h."""
