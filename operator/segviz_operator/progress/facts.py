"""A federation's records as typed facts: what one look at its prefix has found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from segviz_exchange.contract import keys
from segviz_exchange.contract.closing import MAX_ATTEMPTS
from segviz_exchange.contract.progress import Phase, Preflight, Progress
from segviz_exchange.contract.records import (
    Closing,
    Control,
    Exported,
    ExternalScores,
    Failure,
    Final,
    Holder,
    Outcome,
    Rejection,
    Round,
    RoundScores,
    Spent,
    Update,
)
from segviz_operator.plan.decide import Observed
from segviz_operator.plan.workload import Workload


@dataclass(frozen=True)
class Heartbeat:
    progress: Progress
    modified: datetime


@dataclass(frozen=True)
class Delivery:
    """A site's newest update for a round, and when it was committed."""

    update: Update
    modified: datetime


@dataclass(frozen=True)
class SiteFacts:
    """What one site has written, and what was written about it."""

    newest_update: int | None
    """The round of its newest update."""
    scores: dict[int, RoundScores]
    heartbeat: Heartbeat | None
    outcome: Outcome | None
    external: ExternalScores | None
    rejections: tuple[Rejection, ...]
    preflight: Preflight | None = None
    """Of its newest incarnation that has come so far."""
    deliveries: dict[int, Delivery] = field(default_factory=dict)
    """By round."""
    invalid: dict[str, str] = field(default_factory=dict)
    """What it wrote that is no record, by key, with the reason; such an object counts as absent."""

    @property
    def spent(self) -> Spent | None:
        """Of its privacy so far; none where its updates leave as they are."""
        told = [each.update.privacy for each in self.deliveries.values() if each.update.privacy]
        return max(told, key=lambda spent: spent.releases, default=None)

    @property
    def has_delivered(self) -> bool:
        """Whether its data are part of a result."""
        return self.newest_update is not None or self.external is not None


@dataclass(frozen=True)
class FederationRecords:
    now: datetime
    """By the store's clock."""
    control: Control | None
    first_control: Control | None
    rounds: dict[int, Round]
    committed: dict[int, datetime]
    closings: dict[int, Closing]
    final: Final | None
    failures: tuple[Failure, ...]
    exports: dict[str, Exported]
    sites: dict[str, SiteFacts]
    """Every site that has written anything, external ones included, by alias."""
    aggregator: Heartbeat | None
    invalid: tuple[str, ...] = ()
    """What sites wrote that is no record, with the reason; such an object counts as absent."""
    closed: dict[int, datetime] = field(default_factory=dict)
    """When it was decided who is in a round."""
    joined: frozenset[str] = frozenset()
    """Sites that were active when the newest round closed, and so may be in the open one."""

    holder: Holder | None = None
    """Who goes on with the records; nobody but who began them, where there is none."""
    refusals: Mapping[str, int] = field(default_factory=dict)
    """How often each site was left out by a control since it is a member, by alias."""

    @property
    def carriers(self) -> frozenset[str]:
        """Members by whom the open round can close; where all of them were given up, they nevertheless.

        Nobody before the first model is committed, for until then anybody may begin.
        """
        if self.control is None:
            return frozenset()
        return self.joined.intersection(self.control.active) or self.joined.intersection(self.control.members)

    @property
    def newest_round(self) -> int | None:
        return max(self.rounds, default=None)

    def observed(self, workloads: tuple[Workload, ...] = ()) -> Observed:
        """What `decide` reads of it."""
        return Observed(
            control=self.control,
            workloads=workloads,
            newest_round=self.newest_round,
            final=self.final is not None,
            outcomes=frozenset(alias for alias, site in self.sites.items() if site.outcome),
            refused_outcomes=self._refused(keys.outcome),
            refusals=self.refusals,
            rests=frozenset(alias for alias, site in self.sites.items() if self._rests(site)),
            refused_externals=frozenset(self._refused(keys.external_scores)),
            exports=frozenset(self.exports),
            externals=frozenset(alias for alias, site in self.sites.items() if site.external),
            failures=self.failures,
            milestones={alias: self._epochs_seen(site) for alias, site in self.sites.items()},
        )

    def _rests(self, site: SiteFacts) -> bool:
        """Whether a site has delivered for the open round, or its last scores, and nothing asks for more."""
        newest = -1 if self.newest_round is None else self.newest_round
        if self.final is not None or site.newest_update is None:
            return False
        if self.control is not None and newest == self.control.spec.rounds:
            return newest in site.scores
        delivery = site.deliveries.get(site.newest_update)
        if site.newest_update <= newest or delivery is None:
            return False
        refused = sum(1 for each in site.rejections if each.round == site.newest_update)
        return refused < delivery.update.attempt or refused >= MAX_ATTEMPTS

    def _refused(self, key: Callable[[str], str]) -> dict[str, str]:
        """Why a site's last word is not one, by alias: nobody can write another in its place."""
        said = {alias: site.invalid.get(key(alias)) for alias, site in self.sites.items()}
        return {alias: why for alias, why in said.items() if why is not None}

    def _epochs_seen(self, site: SiteFacts) -> int:
        """How many epochs a site has come to; it grows by a scored round and by a heartbeat in training."""
        if self.control is None:
            return 0
        epochs = self.control.spec.local_epochs
        seen = [0 if site.newest_update is None else site.newest_update * epochs + 1, len(site.scores)]
        if site.heartbeat is not None:
            beat = site.heartbeat.progress
            if beat.phase is Phase.TRAINING and beat.round is not None:
                seen.append((beat.round - 1) * epochs + (beat.epoch or 0) + 1)
            if beat.phase is Phase.FINE_TUNING:
                seen.append(self.control.spec.rounds * epochs + (beat.epoch or 0) + 1)
        return max(seen)
