"""Events for people, from the difference of two statuses: nothing has to be remembered for them."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from segviz_exchange.process.words import plain
from segviz_operator.cluster.api.names import MANAGER
from segviz_operator.cluster.status import conditions as c
from segviz_operator.plan.phase import SitePhase

ROUND_COMMITTED = "RoundCommitted"
SITE_READY = "SiteReady"
"""A site has been heard of, for the first time or again."""
SITE_NOT_READY = "SiteNotReady"
SITE_LEFT_OUT = "SiteLeftOut"
SITE_REJOINED = "SiteRejoined"
SITE_LEFT = "SiteLeft"
"""A site is no longer in the federation."""
UPDATE_REJECTED = "UpdateRejected"
"""An update was quarantined; global/rejections/ in the bucket says why."""
RETRIED = "Retried"
PREFIX_LEFT = "PrefixLeft"
"""The federation is gone, but what lies in the bucket could not be deleted."""
PREFIX_DELETED = "PrefixDeleted"

_MESSAGE_LENGTH = 1000


@dataclass(frozen=True)
class Event:
    reason: str
    message: str
    warning: bool = False
    site: str | None = None
    """Alias of the site whose owner is told too, in the site's own namespace."""


@dataclass(frozen=True)
class About:
    """The object that an Event is about."""

    kind: str
    namespace: str
    name: str
    uid: str


def events_between(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Event]:
    yield from _of_conditions(before, now)
    old, new = before.get("currentRound"), now.get("currentRound")
    if new is not None and new != old:
        dice = f", mean Dice so far {now['meanDice']}" if "meanDice" in now else ""
        yield Event(ROUND_COMMITTED, f"round {new} is committed{dice}")
    yield from _of_sites(before, now)
    yield from _of_pods(before, now)


def _of_conditions(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Event]:
    for condition in now.get("conditions") or ():
        old = c.condition_of(before, condition["type"])
        was, holds = old is not None and old["status"] == "True", condition["status"] == "True"
        reason, message = condition["reason"], condition["message"]
        same = old is not None and (old["status"], old["reason"]) == (condition["status"], reason)
        if same:
            continue
        match condition["type"]:
            case c.ACCEPTED if holds:
                yield Event("Accepted", "the federation and its sites fit together")
            case c.ACCEPTED:
                yield Event(reason, message, warning=True)
            case c.DEGRADED if holds:
                yield Event(f"Degraded{reason}", message, warning=True)
            case c.DEGRADED if was:
                yield Event("Recovered", "every site takes part and every Pod runs again")
            case c.SUSPENDED if holds:
                yield Event("Suspended", "spec.suspend is true; Jobs are stopped")
            case c.SUSPENDED if was:
                yield Event("Resumed", "spec.suspend is false again")
            case c.PROGRESSING if holds:
                yield Event("Progressing", f"{reason}: {message}")
            case c.COMPLETE if holds:
                yield Event("Complete", message)
            case c.FAILED if holds:
                yield Event("Failed", message, warning=True)


def _of_sites(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Event]:
    old = {site["alias"]: site for site in before.get("sites") or ()}
    new = {site["alias"]: site for site in now.get("sites") or ()}
    for alias in sorted(old.keys() - new.keys()):
        yield Event(SITE_LEFT, f"{alias} is no longer in the federation")
    for alias, site in sorted(new.items()):
        was = old.get(alias, {})
        left_out, was_left_out = (each.get("phase") == SitePhase.LEFT_OUT for each in (site, was))
        if left_out and not was_left_out:
            yield Event(SITE_LEFT_OUT, f"{alias}: {site.get('message', '')}", warning=True)
        elif was_left_out and not left_out:
            yield Event(SITE_REJOINED, f"{alias} takes part again")
        elif site.get("ready") and not was.get("ready"):
            yield Event(
                SITE_READY,
                f"{alias} is ready: its trainer sends heartbeats. Its phase is {site.get('phase', '')}",
            )
        elif was.get("ready") and not site.get("ready") and site.get("message"):
            # Without a message it merely starts.
            yield Event(SITE_NOT_READY, f"{alias}: {site['message']}", warning=True)
        if (more := site.get("rejections", 0) - was.get("rejections", 0)) > 0:
            what = "an update was" if more == 1 else f"{more} updates were"
            yield Event(UPDATE_REJECTED, f"{alias}: {what} rejected", warning=True)


def _of_pods(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Event]:
    """Once for each site whose Pod is missing or stuck: it is its owner who can help."""
    for part in ("sites", "evaluation"):
        old = {site["alias"]: site.get("reason") for site in before.get(part) or ()}
        for site in now.get(part) or ():
            alias, reason = site["alias"], site.get("reason")
            if reason is not None and reason != old.get(alias):
                yield Event(reason, f"{alias}: {site.get('message', '')}", warning=True, site=alias)


def build_event(about: About, event: Event) -> dict[str, Any]:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{about.name[:200]}.{secrets.token_hex(8)}",
            "namespace": about.namespace,
        },
        "involvedObject": {
            "apiVersion": "segviz.dev/v1alpha1",
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
        "reason": event.reason,
        "message": plain(event.message, _MESSAGE_LENGTH),
        "type": "Warning" if event.warning else "Normal",
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
