"""A federation's metric values, from its records and status alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import fmean

from segviz_exchange.contract.choices import CredentialSource
from segviz_exchange.contract.closing import deadline_of
from segviz_exchange.contract.records import Control, VariantOutcome
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.measures import Measure
from segviz_operator.plan.phase import FederationPhase, SitePhase
from segviz_operator.plan.workload import Workload
from segviz_operator.progress import pace
from segviz_operator.progress.dice import organ_dice_by_round
from segviz_operator.progress.facts import FederationRecords, SiteFacts
from segviz_operator.progress.status import FederationStatus, SiteStatus
from segviz_operator.watch import measures as m

STAGES = ("enter", "train", "upload", "wait", "merge")
Stages = dict[int, dict[str, dict[str, float]]]
"""Seconds by round, participant and stage."""
_ROUNDS_SHOWN = 3
_ROUNDS_COMPARED = 3
_ROUNDS_REMEMBERED = 5
NO_REASON = ""
"""Of the zero that every site's rejections start from: without it the first one would be no increase."""


@dataclass(frozen=True)
class Watched:
    """A federation as it was just now."""

    namespace: str
    name: str
    status: FederationStatus
    records: FederationRecords
    observed_at: datetime
    """By this machine's clock, which is the one that a scrape is compared with."""
    workloads: tuple[Workload, ...] = ()
    credentials: Mapping[str, datetime] = field(default_factory=dict)
    """When those that were last given out expire, by alias; "" is the aggregator."""

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    def here(self, moment: datetime) -> float:
        """A moment of the store's clock as seconds of this machine's."""
        return (self.observed_at - (self.records.now - moment)).timestamp()


@dataclass(frozen=True)
class Sample:
    measure: Measure
    labels: tuple[str, ...]
    """In the measure's order, after those of the federation."""
    value: float


@dataclass(frozen=True)
class Observations:
    """All that a histogram has seen."""

    measure: Measure
    labels: tuple[str, ...]
    values: tuple[float, ...]


def samples_of(watched: Watched) -> Iterator[Sample | Observations]:
    control = watched.records.control
    yield from _federation(watched)
    if control is not None:
        yield from _of_control(watched, control)
        yield from _dice(watched.records, control)
        stages = stages_by_round(watched.records)
        yield from _rounds(watched, control, stages)
        for site in watched.status.sites:
            yield from _site(watched, control, site, stages)
    yield from _runs(watched)


# --- the federation -----------------------------------------------------------------------------------


def _federation(watched: Watched) -> Iterator[Sample]:
    status, records = watched.status, watched.records
    yield Sample(m.PHASE, (status.phase,), 1)
    yield Sample(m.OBSERVED, (), watched.observed_at.timestamp())
    yield Sample(m.ROUNDS, (), status.rounds)
    yield Sample(m.PROGRESS, (), status.share)
    yield Sample(m.INVALID, (), len(records.invalid))
    yield from _if_known(m.ROUND, (), status.round)
    yield from _if_known(m.BEST_ROUND, (), status.best_round)
    yield from _if_known(m.REMAINING, (), status.eta_seconds)
    yield from _if_known(m.MEAN_DICE, (), status.mean_dice)
    yield from _if_known(m.NEWEST_DICE, (), status.newest_mean_dice)
    yield from _if_known(m.FINAL_ROUND, (), status.final_round)


def _of_control(watched: Watched, control: Control) -> Iterator[Sample]:
    spec, status = control.spec, watched.status
    training = [site for site in status.sites if not site.external]
    states = {
        "all": len(training),
        "active": len(control.active),
        "delivered": sum(pace.owes_nothing(watched.records, site.alias) for site in training),
        "silent": sum(site.phase == SitePhase.SILENT for site in training),
    }
    yield Sample(m.INFO, (str(spec.algorithm.name), str(spec.objective)), 1)
    yield Sample(m.CONTROL, (), control.number)
    yield Sample(m.SUSPENDED, (), control.suspend)
    yield Sample(m.QUORUM, (), control.quorum)
    yield from (Sample(m.SITES, (state,), count) for state, count in states.items())
    if spec.store is not None and spec.store.credentials is not CredentialSource.EXISTING_SECRETS:
        yield Sample(m.CREDENTIALS_LIFETIME, (), spec.store.credential_seconds)
    reasons = {failure.reason for failure in watched.records.failures if failure.control == control.number}
    if status.phase == FederationPhase.FAILED and not reasons:
        reasons = {"GivenUp"}
    yield from (Sample(m.FAILURE, (reason,), 1) for reason in sorted(reasons))


def _dice(records: FederationRecords, control: Control) -> Iterator[Sample]:
    known = set(control.organs)
    scored = organ_dice_by_round(records)
    newest = max(scored, default=None)
    if newest is None:
        return
    # Round 0 is a model that nobody has trained: to be better than it means nothing.
    before = scored.get(max(newest - _ROUNDS_COMPARED, 1), {})
    for organ in sorted(known & scored[newest].keys()):
        yield Sample(m.ORGAN_DICE, (organ,), scored[newest][organ])
        yield Sample(
            m.DICE_CHANGE, (organ,), scored[newest][organ] - before.get(organ, scored[newest][organ])
        )
    for number in sorted(scored)[-_ROUNDS_SHOWN:]:
        for organ in sorted(known & scored[number].keys()):
            yield Sample(m.ROUND_DICE, (organ, str(number)), scored[number][organ])


def _rounds(watched: Watched, control: Control, stages: Stages) -> Iterator[Sample | Observations]:
    records = watched.records
    lengths = pace.round_seconds(records)
    yield Observations(m.ROUND_DURATION, (), tuple(lengths.values()))
    yield from _if_known(m.LONGEST, (), max([*lengths.values()][-_ROUNDS_REMEMBERED:], default=None))
    for stage in STAGES:
        values = [site[stage] for sites in stages.values() for site in sites.values()]
        yield Observations(m.STAGE_DURATION, (stage,), tuple(values))
        if stages:
            newest = stages[max(stages)].values()
            yield Sample(m.STAGE, (stage,), fmean(site[stage] for site in newest))
    if records.newest_round is None or records.final is not None:
        return
    opened = records.committed[records.newest_round]
    yield Sample(m.OPENED, (), watched.here(opened))
    deadline = deadline_of(control, opened, timedelta())
    if deadline is not None:
        yield Sample(m.DEADLINE, (), watched.here(deadline))


def stages_by_round(records: FederationRecords) -> Stages:
    """Seconds of each stage, by round and participant; a participant's stages add up to its round."""
    return {
        number: sites
        for number in sorted(records.committed)
        if number - 1 in records.committed and number in records.closings and number in records.closed
        if (sites := _stages(records, number))
    }


def _stages(records: FederationRecords, number: int) -> dict[str, dict[str, float]]:
    opened, closed, committed = (
        moment.timestamp()
        for moment in (records.committed[number - 1], records.closed[number], records.committed[number])
    )
    found = {}
    for participant in records.closings[number].participants:
        facts = records.sites.get(participant.site)
        delivery = facts.deliveries.get(number) if facts else None
        if delivery is None:
            continue
        delivered = delivery.modified.timestamp()
        busy = max(0.0, delivered - opened)
        train = min(delivery.update.seconds, busy)
        upload = min(delivery.update.upload_seconds or 0.0, busy - train)
        found[participant.site] = {
            "enter": busy - train - upload,
            "train": train,
            "upload": upload,
            "wait": max(0.0, closed - delivered),
            "merge": max(0.0, committed - closed),
        }
    return found


# --- sites --------------------------------------------------------------------------------------------


def _site(watched: Watched, control: Control, site: SiteStatus, stages: Stages) -> Iterator[Sample]:
    alias, records = site.alias, watched.records
    facts = records.sites.get(alias)
    yield Sample(m.SITE_INFO, (alias, "evaluation" if site.external else "training"), 1)
    yield Sample(m.SITE_PHASE, (alias, site.phase), 1)
    for measure, value in (
        (m.SITE_ROUND, site.round),
        (m.SITE_EPOCH, site.epoch),
        (m.SITE_PROGRESS, site.share),
        (m.SITE_REMAINING, site.eta_seconds),
        (m.SITE_LOSS, site.loss),
        (m.SCORED_ROUND, site.scored_round),
    ):
        yield from _if_known(measure, (alias,), value)
    organs = control.organs
    yield from (Sample(m.SITE_DICE, (alias, o), site.dice[o]) for o in organs if o in site.dice)
    if facts is not None:
        yield from _of_facts(watched, site, facts, control)
    if not site.external:
        yield from _taken_part(records, alias, facts, stages)


def _of_facts(watched: Watched, site: SiteStatus, facts: SiteFacts, control: Control) -> Iterator[Sample]:
    alias = site.alias
    if facts.heartbeat is not None:
        yield Sample(m.HEARTBEAT, (alias,), watched.here(facts.heartbeat.modified))
        busy = site.phase == facts.heartbeat.progress.phase
        yield from _if_known(
            m.SITE_SPEED, (alias,), facts.heartbeat.progress.samples_per_second if busy else None
        )
    variants = facts.external.variants if facts.external else facts.outcome.variants if facts.outcome else {}
    where = "external" if facts.external else "test"
    for variant, outcome in sorted(variants.items()):
        yield from _test_dice(alias, where, variant, outcome, control)


def _test_dice(
    alias: str, where: str, variant: str, outcome: VariantOutcome, control: Control
) -> Iterator[Sample]:
    for organ in control.organs:
        if organ in outcome.test:
            yield Sample(m.TEST_DICE, (alias, where, variant, organ), outcome.test[organ].mean)


def _taken_part(
    records: FederationRecords, alias: str, facts: SiteFacts | None, stages: Stages
) -> Iterator[Sample]:
    deliveries = facts.deliveries if facts else {}
    yield Sample(m.UPDATES, (alias,), len(deliveries))
    yield Sample(m.UP_BYTES, (alias,), sum(each.update.size_bytes for each in deliveries.values()))
    loaded = [
        records.rounds[each].size_bytes for each in (facts.scores if facts else ()) if each in records.rounds
    ]
    yield Sample(m.DOWN_BYTES, (alias,), sum(loaded))
    yield Sample(m.DELIVERED, (alias,), pace.owes_nothing(records, alias))
    if deliveries:
        yield from _if_known(m.UPDATE_LOSS, (alias,), deliveries[max(deliveries)].update.loss)
    newest = max((number for number, sites in stages.items() if alias in sites), default=None)
    if newest is not None:
        yield from (Sample(m.SITE_STAGE, (alias, stage), stages[newest][alias][stage]) for stage in STAGES)
    closings = records.closings.values()
    part = sum(each.site == alias for closing in closings for each in closing.participants)
    yield Sample(m.PARTICIPATIONS, (alias,), part)
    excluded = [each.reason for closing in closings for each in closing.exclusions if each.site == alias]
    yield from _counted(m.EXCLUSIONS, alias, excluded)
    yield from _counted(m.REJECTIONS, alias, [each.reason for each in (facts.rejections if facts else ())])


def _counted(measure: Measure, alias: str, reasons: list[str]) -> Iterator[Sample]:
    yield Sample(measure, (alias, NO_REASON), 0)
    yield from (Sample(measure, (alias, reason), reasons.count(reason)) for reason in sorted(set(reasons)))


# --- what runs ----------------------------------------------------------------------------------------


def _runs(watched: Watched) -> Iterator[Sample]:
    beat = watched.records.aggregator
    if beat is not None:
        yield Sample(m.AGGREGATOR_PHASE, (str(beat.progress.phase),), 1)
        yield Sample(m.AGGREGATOR_HEARTBEAT, (), watched.here(beat.modified))
    for each in watched.workloads:
        failed = each.failures + (not each.running and each.exit_code not in (None, Exit.DONE, Exit.IDLE))
        yield Sample(m.WORKLOAD_FAILURES, (each.site or "", each.role.lower()), failed)
        if each.stuck:
            yield Sample(m.WORKLOAD_STUCK, (each.site or "", each.role.lower(), each.stuck), 1)
    for alias, expires in sorted(watched.credentials.items()):
        yield Sample(m.CREDENTIALS_EXPIRE, (alias,), expires.timestamp())


def _if_known(measure: Measure, labels: tuple[str, ...], value: float | None) -> Iterable[Sample]:
    return () if value is None else (Sample(measure, labels, value),)
