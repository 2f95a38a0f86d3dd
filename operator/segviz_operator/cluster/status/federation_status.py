"""A federation's status in the cluster, from records, Jobs and manifests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from segviz_exchange.contract import sharing
from segviz_exchange.contract.choices import AlgorithmName, Norm
from segviz_exchange.contract.progress import Finding, Severity
from segviz_exchange.contract.records import Control, Spent, Variant
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.words import plain
from segviz_operator.cluster.membership.attendance import Absence
from segviz_operator.cluster.status import conditions as c
from segviz_operator.cluster.status.bounds import within_bounds
from segviz_operator.cluster.status.conditions import Fact, build_conditions
from segviz_operator.manifests.advice import advice
from segviz_operator.manifests.schema import FEDERATION
from segviz_operator.plan.phase import BROKEN, HELD_UP, FederationPhase, SitePhase
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.status import FederationStatus, SiteStatus

Status = dict[str, Any]

_MOST_FINDINGS = 12
_SEVEREST_FIRST = (Severity.ERROR, Severity.WARNING, Severity.INFO)
_NOT_READY = (*BROKEN, *HELD_UP, SitePhase.STARTING)


@dataclass(frozen=True)
class Picture:
    """All that a status is made from."""

    generation: int
    spec: FederationSpec | None
    now: datetime
    """By the cluster's clock, for conditions."""
    refused: tuple[str, str] | None = None
    """Reason and message, where the manifests are not accepted."""
    records: FederationRecords | None = None
    summary: FederationStatus | None = None
    absent: Mapping[str, Absence] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)
    """By alias, or by role for what runs beside the federation: why a Pod cannot run."""
    stuck: Mapping[str, str] = field(default_factory=dict)
    """Of those the ones that last too long: PodMissing or PodStuck."""
    store_trouble: tuple[str, str] | None = None
    handled_retry: str | None = None
    """The annotation that asks for another try, as it is now: it asks for no more."""


def build_federation_status(picture: Picture, before: Mapping[str, Any]) -> Status:
    """`before` is the status so far: what is not known now stays, and times of transitions do."""
    status: Status = {
        **{name: before[name] for name in _STAYING if name in before},
        "observedGeneration": picture.generation,
        "phase": str(_phase(picture, before)),
        "conditions": build_conditions(
            _facts(picture, before), before.get("conditions") or (), picture.generation, picture.now
        ),
    }
    records, summary = picture.records, picture.summary
    if records is not None and summary is not None:
        status |= _progress(records, summary, picture)
        status["lastHandledRetry"] = picture.handled_retry
    elif picture.spec is not None and picture.absent and not before.get("sites"):
        status["sites"] = [_absent_site(alias, each) for alias, each in sorted(picture.absent.items())]
    known = {name: value for name, value in status.items() if value not in (None, [], {})}
    return within_bounds(FEDERATION, known)


_STAYING = (
    "currentRound",
    "bestRound",
    "meanDice",
    "sitesReady",
    "readySites",
    "totalSites",
    "etaSeconds",
    "sharing",
    "sites",
    "evaluation",
    "lastHandledRetry",
)


# --- phase and conditions ---------------------------------------------------------------------------


def _phase(picture: Picture, before: Mapping[str, Any]) -> str:
    if picture.summary is not None:
        return picture.summary.phase
    return str(before.get("phase", FederationPhase.PENDING))


def _facts(picture: Picture, before: Mapping[str, Any]) -> Iterable[Fact]:
    phase = _phase(picture, before)
    reason = picture.summary.reason if picture.summary else ""
    begun = picture.records is not None and picture.records.control is not None
    accepted, degraded = _accepted(picture, before), _degraded(picture, begun)
    yield _ready(phase, reason, accepted, degraded)
    yield accepted
    ended = phase in (FederationPhase.COMPLETE, FederationPhase.FAILED, FederationPhase.SUSPENDED)
    if ended:
        yield Fact(c.PROGRESSING, False, phase, reason)
    elif not begun and not c.holds(before, c.ACCEPTED) and picture.summary is None:
        refused = picture.refused or picture.store_trouble or ("", "")
        yield Fact(c.PROGRESSING, False, c.NOT_ACCEPTED, refused[1])
    else:
        yield Fact(c.PROGRESSING, True, phase, reason)
    yield degraded
    suspended = phase == FederationPhase.SUSPENDED
    yield Fact(c.SUSPENDED, suspended, c.BY_SPEC if suspended else c.RUNNING, "")
    complete, failed = phase == FederationPhase.COMPLETE, phase == FederationPhase.FAILED
    yield Fact(c.COMPLETE, complete, c.FINISHED if complete else c.RUNNING, reason if complete else "")
    yield Fact(c.FAILED, failed, c.CANNOT_GO_ON if failed else c.RUNNING, reason if failed else "")


def _ready(phase: str, reason: str, accepted: Fact, degraded: Fact) -> Fact:
    """All the others in one. A federation that rests because its people want it to is as it should be."""
    match phase:
        case FederationPhase.FAILED:
            return Fact(c.READY, False, c.FAILED, reason)
        case FederationPhase.COMPLETE:
            return Fact(c.READY, True, c.SUCCEEDED, reason)
    if not accepted.holds:
        return Fact(c.READY, False, accepted.reason, accepted.message)
    if degraded.holds:
        return Fact(c.READY, False, degraded.reason, degraded.message)
    return Fact(c.READY, True, phase, reason)


def _accepted(picture: Picture, before: Mapping[str, Any]) -> Fact:
    if picture.refused is not None:
        return Fact(c.ACCEPTED, False, *picture.refused)
    if picture.store_trouble is not None and not c.holds(before, c.ACCEPTED):
        # Whether it fits what has gone before is known by the records alone.
        return Fact(c.ACCEPTED, False, *picture.store_trouble)
    return Fact(c.ACCEPTED, True, c.FITS, "" if picture.spec is None else advice(picture.spec))


def _degraded(picture: Picture, begun: bool) -> Fact:
    """The first of these; the message names all."""
    found: list[tuple[str, str]] = []
    if picture.store_trouble is not None:
        found.append(picture.store_trouble)
    if picture.refused is not None and begun:
        found.append((c.EDIT_NOT_USED, picture.refused[1]))
    if picture.summary is None or picture.summary.phase != FederationPhase.COMPLETE:
        # Before a site's silence, which may come of it.
        found += [
            (why, f"{who}: {plain(picture.troubles[who])}") for who, why in sorted(picture.stuck.items())
        ]
        found += [
            (c.SITE_ABSENT, f"{alias}: {plain(each.message)}")
            for alias, each in sorted(picture.absent.items())
        ]
        for site in picture.summary.sites if picture.summary else ():
            if site.phase == SitePhase.LEFT_OUT:
                found.append((c.SITE_LEFT_OUT, f"{site.alias}: {plain(site.message)}"))
            elif site.phase == SitePhase.SILENT:
                found.append((c.SITE_SILENT, f"{site.alias}: {site.message}"))
        waiting = sorted(picture.troubles.keys() - picture.stuck.keys())
        found += [(c.POD_WAITING, f"{who}: {plain(picture.troubles[who])}") for who in waiting]
    if not found:
        return Fact(c.DEGRADED, False, c.AS_WANTED)
    return Fact(c.DEGRADED, True, found[0][0], "; ".join(message for _, message in found))


# --- progress -----------------------------------------------------------------------------------------


def _progress(records: FederationRecords, summary: FederationStatus, picture: Picture) -> Status:
    control = records.control
    sites = [_site(site, records, picture) for site in summary.sites if not site.external]
    known = {site["alias"] for site in sites}
    external = {site.alias for site in summary.sites if site.external}
    absent = picture.absent.items()
    evaluators = {member.alias for member in picture.spec.evaluation.sites} if picture.spec else set()
    sites += [
        _absent_site(alias, each) for alias, each in absent if alias not in known and alias not in evaluators
    ]
    ready = sum(1 for site in sites if site.get("ready"))
    evaluation = [_evaluation(site, records, picture) for site in summary.sites if site.external]
    evaluation += [
        {"alias": alias, "message": plain(each.message)}
        for alias, each in absent
        if alias in evaluators and alias not in external
    ]
    return {
        "currentRound": records.newest_round,
        "bestRound": summary.best_round,
        "meanDice": None if summary.mean_dice is None else f"{summary.mean_dice:.4f}",
        "sitesReady": f"{ready}/{len(sites)}",
        "readySites": ready,
        "totalSites": len(sites),
        "etaSeconds": None if summary.eta_seconds is None else round(summary.eta_seconds),
        "sharing": [] if control is None else shared_groups(control),
        "sites": sorted(sites, key=lambda site: site["alias"]),
        "evaluation": sorted(evaluation, key=lambda site: site["alias"]),
    }


def _site(site: SiteStatus, records: FederationRecords, picture: Picture) -> Status:
    facts = records.sites.get(site.alias)
    absence = picture.absent.get(site.alias)
    message = absence.message if absence else picture.troubles.get(site.alias) or site.message
    heard = facts.heartbeat.modified if facts and facts.heartbeat else None
    rejections = len(facts.rejections) if facts else 0
    found: Status = {
        "alias": site.alias,
        "phase": "Absent" if absence else site.phase,
        "ready": absence is None
        and site.alias not in picture.stuck
        and site.phase not in _NOT_READY
        and (heard is not None or site.phase == SitePhase.DONE),
        "round": facts.newest_update if facts else None,
        "epoch": site.epoch,
        "etaSeconds": None if site.eta_seconds is None else round(site.eta_seconds),
        "lastHeartbeatTime": None if heard is None else f"{heard:%Y-%m-%dT%H:%M:%SZ}",
        "dice": {organ: f"{value:.4f}" for organ, value in sorted(site.dice.items())} or None,
        "rejections": rejections or None,
        "privacy": None if site.privacy is None else _privacy(site.privacy),
        "preflight": _findings(site.preflight) or None,
        "reason": picture.stuck.get(site.alias),
        "message": plain(message) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _findings(found: Sequence[Finding]) -> list[Status]:
    """In their order, where there is room for all; else the severest, and how many more there are."""
    shown = list(found)
    if more := max(0, len(shown) - _MOST_FINDINGS):
        shown = sorted(shown, key=lambda each: _SEVEREST_FIRST.index(each.severity))[:_MOST_FINDINGS]
    findings = [
        {"check": each.check, "severity": str(each.severity), "message": plain(each.message)}
        for each in shown
    ]
    if more:
        message = f"{more} more; the site's own log has all"
        findings.append({"check": "Further", "severity": str(shown[-1].severity), "message": message})
    return findings


def _privacy(spent: Spent) -> Status:
    """Without an epsilon where there is no bound: an update left without noise."""
    bound = {} if spent.epsilon is None else {"epsilon": f"{spent.epsilon:.4g}"}
    return {**bound, "delta": f"{spent.delta:g}", "releases": spent.releases}


def _absent_site(alias: str, absence: Absence) -> Status:
    return {"alias": alias, "phase": "Absent", "ready": False, "message": plain(absence.message)}


def _evaluation(site: SiteStatus, records: FederationRecords, picture: Picture) -> Status:
    facts = records.sites.get(site.alias)
    scores = facts.external if facts else None
    if scores is None:
        absence = picture.absent.get(site.alias)
        message = absence.message if absence else picture.troubles.get(site.alias) or site.message
        stuck = picture.stuck.get(site.alias)
        told = {"reason": stuck} if stuck else {}
        return {"alias": site.alias, **told, "message": plain(message or site.phase)}
    organs = records.control.organs if records.control else ()
    variant = scores.variants.get(Variant.TUNED) or scores.variants.get(Variant.BASE)
    test = variant.test if variant else {}
    return {
        "alias": site.alias,
        "dice": {organ: f"{test[organ].mean:.4f}" for organ in organs if organ in test},
    }


def shared_groups(control: Control) -> list[Status]:
    """Who trains each group of tensors, and over whom it is averaged."""
    keeps_norm = control.spec.algorithm.name is AlgorithmName.FED_BN and control.spec.model.norm is Norm.BATCH
    organs = [sharing.SHARED_HEAD] if control.shared_head else list(control.organs)
    groups: list[Status] = []
    for block in (sharing.REPRESENTATION, *organs):
        whole = block in (sharing.REPRESENTATION, sharing.SHARED_HEAD)
        owners = control.active if whole else control.owners(block)
        for kind in (sharing.PARAMETER, *((sharing.NORM,) if keeps_norm else ())):
            shared = sharing.contributors(sharing.TensorGroup(block, kind), control)
            name = "all organs" if block == sharing.SHARED_HEAD else block
            groups.append(
                {
                    "group": name if kind == sharing.PARAMETER else f"{name} norm",
                    "owners": list(owners),
                    "sharedBy": list(shared),
                }
            )
    return groups
