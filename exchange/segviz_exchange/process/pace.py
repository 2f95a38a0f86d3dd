"""How long a process waits before it looks again."""

from dataclasses import dataclass

SHARE = 0.01
"""Of the time waited so far: so much later than it was written, at most, is a record seen."""
LEAST_SECONDS = 0.1
MOST_SECONDS = 5.0
_PAUSES_PER_LOOK = 4.0


@dataclass(frozen=True)
class Pace:
    """Often when something has just happened, as more may follow; seldom when nothing has for long.

    A pause is a share of the time that has been waited, so what comes after an hour is seen as promptly, in
    proportion, as what comes after a second, and the looks grow with the logarithm of the time alone.
    """

    most_seconds: float = MOST_SECONDS
    least_seconds: float = LEAST_SECONDS
    share: float = SHARE

    def pause(self, waited: float, look: float = 0.0, due: float | None = None) -> float:
        """Seconds until the next look.

        Args:
            waited: seconds since something happened.
            look: seconds that the last look took. Where the store is slow, most of the time is still pause,
                as far as `most_seconds` allows.
            due: seconds until the clock alone changes what is to be done; a look comes right after that.
        """
        wanted = max(self.least_seconds, self.share * waited, _PAUSES_PER_LOOK * look)
        # A look may have taken minutes because the store was away: that is no reason to wait for longer.
        seconds = min(wanted, self.most_seconds)
        return seconds if due is None or due <= 0.0 else min(seconds, due)
