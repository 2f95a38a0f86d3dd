"""How a federation stands, from its records alone: true while it runs, afterwards, and after a kill."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

import msgspec

from segviz_exchange.contract import keys
from segviz_exchange.contract.progress import Finding, Phase, Progress
from segviz_exchange.contract.records import Control, RoundScores, Spent
from segviz_exchange.process.exits import Exit
from segviz_operator.plan.phase import IDLE, FederationPhase, SitePhase, phase_of
from segviz_operator.plan.workload import Workload
from segviz_operator.progress import pace
from segviz_operator.progress.dice import best_so_far, newest_mean_dice
from segviz_operator.progress.facts import FederationRecords, Heartbeat, SiteFacts

_SILENT_SECONDS = 300.0
"""Without a heartbeat; between two, a CPU may predict a large case."""
_MUTE = (
    "no heartbeat has come, though its Pod runs: it may not reach the store. Look at the Pod's log, and at "
    "NetworkPolicies, proxy and DNS of its namespace"
)
_ENDED = (FederationPhase.COMPLETE, FederationPhase.FAILED, FederationPhase.SUSPENDED)


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
    preflight: tuple[Finding, ...] = ()
    """What its trainer found before it began."""
    privacy: Spent | None = None
    """What its updates have spent so far; none where it neither clips nor adds noise."""


class FederationStatus(Part, frozen=True):
    name: str
    phase: str
    reason: str
    round: int | None
    """The newest committed one."""
    rounds: int
    best_round: int | None
    """The round with the highest mean validation Dice over organs so far; round 0 does not count."""
    mean_dice: float | None
    """Of the best round."""
    newest_mean_dice: float | None
    """Of the newest round that every active site has scored."""
    final_round: int | None
    """The round of the final model, once it is chosen."""
    share: float
    eta_seconds: float | None
    aggregator: str
    sites: tuple[SiteStatus, ...]


def build_status(
    name: str,
    records: FederationRecords,
    workloads: tuple[Workload, ...] = (),
    paused: frozenset[str] = frozenset(),
) -> FederationStatus:
    """`paused` are the sites whose owners have suspended them."""
    phase, reason = phase_of(records.observed(workloads))
    best = best_so_far(records)
    sites = () if records.control is None else _sites(records.control, records, workloads, paused)
    held_up = "" if phase in _ENDED else _held_up(sites, records)
    rounds = 0 if records.control is None else records.control.spec.rounds
    training = [site for site in sites if not site.external and site.phase != SitePhase.LEFT_OUT]
    within = fmean([_share_of_next_round(site, records) for site in training]) if training else 0.0
    rests = [site.eta_seconds for site in training if site.eta_seconds is not None]
    return FederationStatus(
        name=name,
        phase=str(phase),
        reason=f"{reason}; {held_up}" if held_up else reason,
        round=records.newest_round,
        rounds=rounds,
        best_round=None if best is None else best.round,
        mean_dice=None if best is None else best.mean_dice,
        newest_mean_dice=newest_mean_dice(records),
        final_round=None if records.final is None else records.final.round,
        share=pace.share_done(records, rounds, within),
        eta_seconds=pace.eta_seconds(records, rounds, rests),
        aggregator=_aggregator(records),
        sites=sites,
    )


# --- sites --------------------------------------------------------------------------------------------


def _sites(
    control: Control,
    records: FederationRecords,
    workloads: tuple[Workload, ...],
    paused: frozenset[str],
) -> tuple[SiteStatus, ...]:
    external = sorted(member.alias for member in control.spec.evaluation.sites)
    by_site = {each.site: each for each in workloads if each.site is not None}
    return tuple(
        _site(_Case(alias, alias in external, alias in paused, control, records, by_site))
        for alias in (*sorted(control.members), *external)
    )


@dataclass(frozen=True)
class _Case:
    alias: str
    external: bool
    paused: bool
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
    def refused(self) -> str | None:
        """Why its external scores are none."""
        invalid = self.facts.invalid if self.facts and self.external else {}
        return invalid.get(keys.external_scores(self.alias))

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
        phase=str(phase),
        message=message if case.refused else _with_refused(message, case.facts),
        round=beat.round if beat and busy else None,
        epoch=min(beat.epoch + 1, epochs) if beat and busy and epochs and beat.epoch is not None else None,
        epochs=epochs if busy else None,
        share=share,
        loss=beat.loss if beat and busy else None,
        scored_round=newest,
        dice={} if newest is None else _known_dice(scores[newest], case.control),
        heartbeat_age_seconds=_age_seconds(case),
        eta_seconds=pace.rest_seconds(case.records, share) if beat and beat.phase is Phase.TRAINING else None,
        preflight=case.facts.preflight.findings if case.facts and case.facts.preflight else (),
        privacy=case.facts.spent if case.facts else None,
    )


def _with_refused(message: str, facts: SiteFacts | None) -> str:
    """Also what of its records is not used, and why: the first by key, and how many more there are."""
    if facts is None or not facts.invalid:
        return message
    first, more = facts.invalid[min(facts.invalid)], len(facts.invalid) - 1
    refused = f"not used: {first}" + (f" (and {more} more)" if more else "")
    return f"{message}; {refused}" if message else refused


def _known_dice(scores: RoundScores, control: Control) -> dict[str, float]:
    return {organ: scores.dice[organ].mean for organ in control.organs if organ in scores.dice}


def _site_phase(case: _Case, beat: Progress | None) -> tuple[str, str]:
    workload = case.workloads.get(case.alias)
    if case.excluded:
        return SitePhase.LEFT_OUT, case.excluded
    if case.refused:
        return SitePhase.FAILED, f"refused: {case.refused}"
    if case.done:
        return SitePhase.DONE, ""
    if case.paused:
        return SitePhase.SUSPENDED, "suspended by its owner"
    if workload is not None and workload.exit_code == Exit.IDLE:
        return SitePhase.WAITING, "has given back what it held, and starts again when there is work"
    if workload is not None and not workload.running:
        return (SitePhase.FAILED if workload.remote else SitePhase.RESTARTING), workload.message
    if workload is not None and workload.remote and beat is None:
        return SitePhase.WAITING, "for `segviz join` at the site"
    if case.external and workload is None and beat is None:
        return SitePhase.WAITING, "for the exported model"
    if case.control.suspend:
        return SitePhase.SUSPENDED, ""
    if case.heartbeat is not None and (_age_seconds(case) or 0.0) > _SILENT_SECONDS:
        return SitePhase.SILENT, f"no heartbeat since {_utc(case.heartbeat.modified)}"
    if beat is None and workload is not None and workload.settled:
        return SitePhase.SILENT, _MUTE
    if beat is None:
        return SitePhase.STARTING, "" if workload is None else workload.message
    return str(beat.phase), beat.message


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


def _held_up(sites: tuple[SiteStatus, ...], records: FederationRecords) -> str:
    """Which of the sites that are awaited do nothing, and since when they are awaited."""
    opened = max(records.committed.values(), default=None)
    idle = [
        f"{site.alias} ({site.message})"
        for site in sites
        if site.phase in IDLE and site.message and not pace.owes_nothing(records, site.alias)
    ]
    since = f" since {_utc(opened)}" if opened else ""
    return f"waiting{since} for {', '.join(idle)}" if idle else ""


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# --- the federation -----------------------------------------------------------------------------------


def _share_of_next_round(site: SiteStatus, records: FederationRecords) -> float:
    """How much of the round that is open a site has done."""
    if pace.owes_nothing(records, site.alias):
        return 1.0
    works = site.phase == Phase.TRAINING and site.round == pace.open_round(records)
    return site.share or 0.0 if works else 0.0


def _aggregator(records: FederationRecords) -> str:
    if records.final is not None:
        return f"done; round {records.final.round} is the final model"
    if records.aggregator is None:
        return "starting"
    beat = records.aggregator.progress
    return beat.message or str(beat.phase)
