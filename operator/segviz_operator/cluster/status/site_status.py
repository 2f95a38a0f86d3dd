"""A site's status in the cluster: which federations name it, and how it takes part in each."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from segviz_operator.cluster.membership.attendance import SITE_INCOMPLETE, missing_fields
from segviz_operator.cluster.status.bounds import within_bounds
from segviz_operator.cluster.status.conditions import ACCEPTED, DEGRADED, FITS, READY, Fact, build_conditions
from segviz_operator.manifests.manifest import Site
from segviz_operator.manifests.schema import SITE
from segviz_operator.plan.phase import SitePhase

TAKES_PART = "TakesPart"
"""Nothing keeps it from taking part in the federations that it allows."""
NOT_ALLOWED = "NotAllowed"
"""A federation names the site, and the site does not allow it."""
LEFT_OUT = "LeftOut"
"""A federation has given the site up."""

Status = dict[str, Any]


def build_site_status(
    site: Site, federations: Iterable[Mapping[str, Any]], before: Mapping[str, Any], now: datetime
) -> Status:
    """Args:
    federations: those that name the site, as the API server holds them.
    """
    uses = sorted((use for raw in federations for use in _uses(site, raw)), key=lambda use: use["federation"])
    generation = site.raw["metadata"].get("generation", 0)
    accepted, degraded = _accepted(site), _degraded(uses)
    facts = (_ready(accepted, degraded), accepted, degraded)
    status = {
        "observedGeneration": generation,
        "conditions": build_conditions(facts, before.get("conditions") or (), generation, now),
        "federations": uses,
    }
    return within_bounds(SITE, status)


def _uses(site: Site, raw: Mapping[str, Any]) -> Iterable[Status]:
    spec, status = raw["spec"], raw.get("status") or {}
    key = f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
    shown = {
        each["alias"]: each for each in (*(status.get("sites") or ()), *(status.get("evaluation") or ()))
    }
    for member in (*spec["sites"], *((spec.get("evaluation") or {}).get("sites") or ())):
        ref = member["siteRef"]
        if (ref["namespace"], ref["name"]) != (site.namespace, site.name):
            continue
        known = shown.get(member["alias"], {})
        allowed = site.allows(key, raw["metadata"].get("uid"))
        use = {
            "federation": key,
            "alias": member["alias"],
            "phase": known.get("phase") if allowed else "NotAllowed",
            "reason": known.get("reason") if allowed else None,
            "message": known.get("message")
            if allowed
            else "spec.allowedFederations does not list this federation",
        }
        yield {name: value for name, value in use.items() if value}


def _ready(accepted: Fact, degraded: Fact) -> Fact:
    if not accepted.holds:
        return Fact(READY, False, accepted.reason, accepted.message)
    return Fact(READY, not degraded.holds, degraded.reason, degraded.message)


def _accepted(site: Site) -> Fact:
    missing = missing_fields(site)
    if missing:
        return Fact(
            ACCEPTED, False, SITE_INCOMPLETE, f"{site} lacks {missing}, which a cluster needs. Add it."
        )
    return Fact(ACCEPTED, True, FITS)


def _degraded(uses: list[Status]) -> Fact:
    for phase, reason in ((SitePhase.LEFT_OUT, LEFT_OUT), ("NotAllowed", NOT_ALLOWED)):
        found = [
            f"{use['federation']}: {use.get('message', '')}" for use in uses if use.get("phase") == phase
        ]
        if found:
            return Fact(DEGRADED, True, reason, "; ".join(found))
    held_up = [use for use in uses if "reason" in use]
    if held_up:
        said = "; ".join(f"{use['federation']}: {use.get('message', '')}" for use in held_up)
        return Fact(DEGRADED, True, held_up[0]["reason"], said)
    return Fact(DEGRADED, False, TAKES_PART)
