"""How a federation stands, from its records alone: true while it runs, afterwards, and after a kill."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from statistics import fmean

import msgspec

from segviz_exchange.records import Control, Phase, Progress
from segviz_operator.observe import FederationRecords, Heartbeat, SiteFacts
from segviz_operator.phase import phase_of
from segviz_operator.workload import Workload

_ROUNDS_FOR_ETA = 5
"""The mean over so many rounds: short enough to follow a machine that became slower."""
_EARLIEST_SHARE = 0.05
"""Of a piece of work, before which its speed says nothing yet."""


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """What `segviz status --json` prints."""


class SiteStatus(Part, frozen=True):
    alias: str
    external: bool
    """Whether it only evaluates the result."""
    phase: str
    message: str
    round: int | None
    """The round it works for."""
    epoch: int | None
    """Counted from 1."""
    epochs: int | None
    share: float | None
    """Of the work for this round (or of the data, before) that is done, 0 to 1."""
    loss: float | None
    scored_round: int | None
    dice: dict[str, float]
    """Validation Dice by organ of the newest global model that it has scored."""
    heartbeat_age_seconds: float | None
    eta_seconds: float | None


class FederationStatus(Part, frozen=True):
    name: str
    phase: str
    reason: str
    round: int | None
    """The newest committed one."""
    rounds: int
    best_round: int | None
    mean_dice: float | None
    """Over organs, of the newest round that every active site has scored."""
    share: float
    eta_seconds: float | None
    aggregator: str
    sites: tuple[SiteStatus, ...]


def build_status(
    name: str, records: FederationRecords, workloads: tuple[Workload, ...] = ()
) -> FederationStatus:
    phase, reason = phase_of(records.observed(workloads))
    sites = () if records.control is None else _sites(records.control, records, workloads)
    rounds = 0 if records.control is None else records.control.spec.rounds
    training = [site for site in sites if not site.external and site.phase != "LeftOut"]
    within = fmean([_share_of_next_round(site, records) for site in training]) if training else 0.0
    return FederationStatus(
        name=name,
        phase=str(phase),
        reason=reason,
        round=records.newest_round,
        rounds=rounds,
        best_round=None if records.final is None else records.final.round,
        mean_dice=mean_dice(records),
        share=_share(records, rounds, within),
        eta_seconds=_eta_seconds(records, rounds, training),
        aggregator=_aggregator(records),
        sites=sites,
    )


def mean_dice(records: FederationRecords) -> float | None:
    """Over organs, of the newest round that every active site has scored."""
    dice = dice_by_round(records)
    return dice[max(dice)] if dice else None


def dice_by_round(records: FederationRecords) -> dict[int, float]:
    """Mean validation Dice over organs of each round that every active site has scored."""
    if records.control is None:
        return {}
    facts = [records.sites.get(alias) for alias in records.control.active]
    complete = set(records.rounds)
    for site in facts:
        complete &= set() if site is None else set(site.scores)
    return {number: value for number in sorted(complete) if (value := _mean_of(facts, number)) is not None}


def _mean_of(sites: list[SiteFacts | None], round_: int) -> float | None:
    by_organ: dict[str, list[float]] = {}
    for site in sites:
        for organ, dice in site.scores[round_].dice.items() if site else ():
            by_organ.setdefault(organ, []).append(dice.mean)
    return fmean(fmean(values) for values in by_organ.values()) if by_organ else None


# --- sites --------------------------------------------------------------------------------------------


def _sites(
    control: Control, records: FederationRecords, workloads: tuple[Workload, ...]
) -> tuple[SiteStatus, ...]:
    external = sorted(member.alias for member in control.spec.evaluation.sites)
    by_site = {each.site: each for each in workloads if each.site is not None}
    return tuple(
        _site(_Case(alias, alias in external, control, records, by_site))
        for alias in (*sorted(control.members), *external)
    )


@dataclass(frozen=True)
class _Case:
    alias: str
    external: bool
    control: Control
    records: FederationRecords
    workloads: Mapping[str, Workload]

    @property
    def facts(self) -> SiteFacts | None:
        return self.records.sites.get(self.alias)

    @property
    def heartbeat(self) -> Heartbeat | None:
        """Of the attempt that runs; what an earlier one said last is no longer true."""
        beat = self.facts.heartbeat if self.facts else None
        workload = self.workloads.get(self.alias)
        started = None if workload is None else workload.started_at
        return None if beat is None or (started is not None and beat.modified < started) else beat

    @property
    def done(self) -> bool:
        facts = self.facts
        return facts is not None and (facts.external if self.external else facts.outcome) is not None

    @property
    def excluded(self) -> str | None:
        member = self.control.members.get(self.alias)
        return None if member is None else member.excluded


def _site(case: _Case) -> SiteStatus:
    beat = case.heartbeat.progress if case.heartbeat else None
    phase, message = _site_phase(case, beat)
    epochs = _epochs(case.control, beat)
    busy = beat is not None and phase == beat.phase
    share = _share_of_work(beat, epochs) if busy else None
    scores = case.facts.scores if case.facts else {}
    newest = max(scores, default=None)
    return SiteStatus(
        alias=case.alias,
        external=case.external,
        phase=phase,
        message=message,
        round=beat.round if beat and busy else None,
        epoch=min(beat.epoch + 1, epochs) if beat and busy and epochs and beat.epoch is not None else None,
        epochs=epochs if busy else None,
        share=share,
        loss=beat.loss if beat and busy else None,
        scored_round=newest,
        dice={organ: dice.mean for organ, dice in scores[newest].dice.items()} if newest is not None else {},
        heartbeat_age_seconds=_age_seconds(case),
        eta_seconds=_rest_seconds(case.records, share) if beat and beat.phase is Phase.TRAINING else None,
    )


def _site_phase(case: _Case, beat: Progress | None) -> tuple[str, str]:
    workload = case.workloads.get(case.alias)
    if case.excluded:
        return "LeftOut", case.excluded
    if case.done:
        return "Done", ""
    if workload is not None and not workload.running:
        return "Restarting", workload.message
    if case.external and workload is None and beat is None:
        return "Waiting", "for the exported model"
    if case.control.suspend:
        return "Suspended", ""
    return (str(beat.phase), beat.message) if beat else ("Starting", "")


def _epochs(control: Control, beat: Progress | None) -> int | None:
    if beat is not None and beat.phase is Phase.FINE_TUNING and control.spec.fine_tuning is not None:
        return control.spec.fine_tuning.epochs
    return control.spec.local_epochs if beat is not None and beat.phase is Phase.TRAINING else None


def _share_of_work(beat: Progress | None, epochs: int | None) -> float | None:
    if beat is None or beat.steps is None or beat.step is None:
        return None
    step = beat.step / max(1, beat.steps)
    return min(1.0, step if not epochs else ((beat.epoch or 0) + step) / epochs)


def _age_seconds(case: _Case) -> float | None:
    if case.heartbeat is None:
        return None
    return max(0.0, (case.records.now - case.heartbeat.modified).total_seconds())


# --- time ---------------------------------------------------------------------------------------------


def _share_of_next_round(site: SiteStatus, records: FederationRecords) -> float:
    """How much of the round that is open a site has done."""
    open_round = (-1 if records.newest_round is None else records.newest_round) + 1
    facts = records.sites.get(site.alias)
    if facts is not None and facts.newest_update == open_round:
        return 1.0
    return site.share or 0.0 if site.phase == Phase.TRAINING and site.round == open_round else 0.0


def _share(records: FederationRecords, rounds: int, within: float) -> float:
    if records.final is not None:
        return 1.0
    if not rounds or records.newest_round is None:
        return 0.0
    return min(1.0, (records.newest_round + within) / rounds)


def _rest_seconds(records: FederationRecords, share: float | None) -> float | None:
    """Of a site's work for the open round, at its own speed since the round opened."""
    elapsed = _open_for(records)
    if share is None or elapsed is None or share < _EARLIEST_SHARE:
        return None
    return elapsed.total_seconds() * (1 - share) / share


def _open_for(records: FederationRecords) -> timedelta | None:
    if records.newest_round is None:
        return None
    return max(timedelta(), records.now - records.committed[records.newest_round])


def _eta_seconds(records: FederationRecords, rounds: int, sites: list[SiteStatus]) -> float | None:
    """Until the last round is committed; testing and exporting come on top."""
    newest, elapsed = records.newest_round, _open_for(records)
    if newest is None or elapsed is None or records.final is not None or newest >= rounds:
        return None
    rests = [site.eta_seconds for site in sites if site.eta_seconds is not None]
    lengths = _round_seconds(records)
    if lengths:
        length = fmean(lengths[-_ROUNDS_FOR_ETA:])
        return max(length - elapsed.total_seconds(), 0.0) + length * (rounds - newest - 1)
    # In the first round the slowest site says how long one takes.
    slowest = max(rests, default=None)
    if slowest is None:
        return None
    return slowest + (elapsed.total_seconds() + slowest) * (rounds - newest - 1)


def _round_seconds(records: FederationRecords) -> list[float]:
    """How long each trained round took. Round 0 trains nothing."""
    times = records.committed
    return [
        (times[number] - times[number - 1]).total_seconds()
        for number in sorted(times)
        if number >= 1 and number - 1 in times
    ]


def _aggregator(records: FederationRecords) -> str:
    if records.final is not None:
        return f"done; round {records.final.round} is the final model"
    if records.aggregator is None:
        return "starting"
    beat = records.aggregator.progress
    return beat.message or str(beat.phase)
