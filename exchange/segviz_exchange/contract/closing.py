"""Who is in a round: one pure function, called by the aggregator alone.

The clock is the store's: `now`, and the times behind `deadline`, come from it, so no machine's clock counts.
A site that stays away never moves the deadline, and an update that comes after the closing is never merged.
Time alone never fails a round: it may have passed while nobody was at work.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from segviz_exchange.contract.choices import Weights
from segviz_exchange.contract.records import Closing, Control, Exclusion, Participant, Rejection, Update

MAX_ATTEMPTS = 3
MAX_CASES_RATIO = 5
"""How many times the median of the others' cases a site's may weigh. Nobody can count another's cases, so
this bounds what a claim is worth."""

NO_UPDATE = "NoUpdate"
"""The deadline came before the site's update."""
REJECTED = "Rejected"
"""The site's update was rejected as often as it may be."""
EXCLUDED = "Excluded"
"""The control leaves the site out; its reason says why."""
QUORUM_LOST = "QuorumLost"
"""Fewer than `minSites` can still take part in the round."""


@dataclass(frozen=True)
class SiteRecords:
    """What is known of one site in one round."""

    accepted: Update | None = None
    rejections: tuple[Rejection, ...] = ()

    @property
    def refused(self) -> bool:
        return self.accepted is None and len(self.rejections) >= MAX_ATTEMPTS


@dataclass(frozen=True)
class RoundRecords:
    """What is known of one round before it closes."""

    round: int
    joined: frozenset[str]
    """Who was active when the round was opened; in round 0, who is now."""
    sites: Mapping[str, SiteRecords]
    opened: datetime
    """Last-Modified of the previous round's record; in round 0, of the first control."""
    suspended: timedelta
    """How long the federation was suspended since."""
    admitted: Mapping[str, int] = field(default_factory=dict)
    """What each site weighed in the first round that it was in, by alias: it never weighs more."""


@dataclass(frozen=True)
class Wait:
    """The round is open."""

    missing: tuple[str, ...]
    deadline: datetime | None


@dataclass(frozen=True)
class Fail:
    """The round cannot close under this control; a new control can mend it."""

    reason: str
    message: str


def close_round(control: Control, records: RoundRecords, now: datetime) -> Wait | Fail | Closing:
    """Decide a round from the newest control and the records so far.

    While suspended nothing is decided. A round closes as soon as every expected site has delivered or can
    no longer do so, and from the deadline on as soon as `minSites` have. It fails only when they no longer
    can.
    """
    expected = expected_sites(control, records.joined)
    # In the order of aliases, which everything below keeps.
    known = {alias: records.sites.get(alias, SiteRecords()) for alias in expected}
    delivered = {alias: site.accepted for alias, site in known.items() if site.accepted is not None}
    missing = [alias for alias, site in known.items() if site.accepted is None and not site.refused]
    deadline = deadline_of(control, records.opened, records.suspended)
    if control.suspend:
        return Wait(tuple(missing), deadline)
    needed = needed_sites(control, records.joined)
    if len(delivered) + len(missing) < needed:
        return Fail(QUORUM_LOST, _quorum_message(records.round, needed, known, control))
    overdue = deadline is not None and now >= deadline
    if missing and not (overdue and len(delivered) >= needed):
        return Wait(tuple(missing), deadline)
    weights = weights_of(delivered, records.admitted, control)
    return Closing(
        round=records.round,
        control=control.number,
        participants=tuple(
            Participant(alias, update.attempt, update.blob, weights[alias])
            for alias, update in delivered.items()
        ),
        exclusions=tuple(
            sorted(
                [_exclusion(alias, site) for alias, site in known.items() if site.accepted is None]
                + [
                    Exclusion(alias, EXCLUDED, member.excluded)
                    for alias, member in control.members.items()
                    if member.excluded is not None
                ],
                key=lambda exclusion: exclusion.site,
            )
        ),
    )


def expected_sites(control: Control, joined: Collection[str]) -> tuple[str, ...]:
    """Who can be in a round, by alias: joiners begin with the next one, and who left is out at once."""
    return tuple(alias for alias in control.active if alias in joined)


def deadline_of(control: Control, opened: datetime, suspended: timedelta) -> datetime | None:
    """None where a round waits for everybody, however long."""
    timeout = control.spec.participation.round_timeout_seconds
    if timeout is None:
        return None
    return opened + timedelta(seconds=timeout) + suspended


def needed_sites(control: Control, joined: Collection[str]) -> int:
    """How many a round closes with at least.

    Joiners count towards the quorum as far as the others cannot fill it, but cannot deliver yet.

    Without this, nobody could join a federation that needs them, and a joiner would weaken one that does not.
    """
    expected = len(expected_sites(control, joined))
    joining = len(control.active) - expected
    return max(1, control.quorum - min(joining, max(0, control.quorum - expected)))


def weights_of(
    delivered: Mapping[str, Update], admitted: Mapping[str, int], control: Control
) -> dict[str, int]:
    """What each participant weighs, by alias."""
    if control.spec.algorithm.weights is not Weights.CASES:
        return dict.fromkeys(delivered, 1)
    claims = {
        alias: min(update.cases, admitted.get(alias, update.cases)) for alias, update in delivered.items()
    }
    return {alias: min(claim, _most_cases(alias, claims)) for alias, claim in claims.items()}


def _most_cases(alias: str, claims: Mapping[str, int]) -> int:
    others = [claim for other, claim in claims.items() if other != alias]
    return int(MAX_CASES_RATIO * median(others)) if others else claims[alias]


def _exclusion(alias: str, site: SiteRecords) -> Exclusion:
    if site.refused:
        last = site.rejections[-1]
        return Exclusion(alias, REJECTED, f"attempt {last.attempt}: {last.reason}: {last.message}")
    return Exclusion(alias, NO_UPDATE, "no update before the deadline")


def _quorum_message(round_: int, needed: int, known: Mapping[str, SiteRecords], control: Control) -> str:
    refused = [_exclusion(alias, site) for alias, site in known.items() if site.refused]
    lost = "; ".join(f"{exclusion.site}: {exclusion.reason}, {exclusion.message}" for exclusion in refused)
    left_out = "; ".join(
        f"{alias}: {member.excluded}" for alias, member in sorted(control.members.items()) if member.excluded
    )
    late = "; ".join(f"{alias}: joins with the next round" for alias in control.active if alias not in known)
    reasons = "; ".join(part for part in (lost, left_out, late) if part) or "the others have left"
    return (
        f"round {round_} can have {len(known) - len(refused)} of the {needed} sites it needs ({reasons}). "
        "Fix what keeps the others out, or lower spec.participation.minSites."
    )
