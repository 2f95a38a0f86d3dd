"""A federation's conditions, for machines; each reason is a constant with a line that says when it occurs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

READY = "Ready"
"""Whether all is well, in one word: its reason says what is not, or how far it has come."""
ACCEPTED = "Accepted"
"""The manifests fit each other, and what is wanted is in force."""
PROGRESSING = "Progressing"
"""Work is done, or is about to be."""
DEGRADED = "Degraded"
"""It goes on, but not as wanted."""
SUSPENDED = "Suspended"
COMPLETE = "Complete"
FAILED = "Failed"

# Reasons of Accepted are those of acceptance.py, attendance.py, store_access.py and adoption.py, of Degraded
# those of waiting.py as well, and these.
FITS = "Fits"
"""Nothing is wrong with the manifests."""
STORE_MISSING = "StoreMissing"
"""spec.store is left out, which a cluster needs."""
NOT_ACCEPTED = "NotAccepted"
"""Nothing is done, because the manifests are not accepted."""
AS_WANTED = "AsWanted"
"""Every site takes part and every Pod runs."""
STORE_UNAVAILABLE = "StoreUnavailable"
"""The store does not answer; Pods wait for it by themselves."""
STORE_DENIED = "StoreDenied"
"""The store answers that the operator may not do what it must."""
SITE_ABSENT = "SiteAbsent"
"""A site has not consented, is not there, or lacks something, and the others go on."""
SITE_LEFT_OUT = "SiteLeftOut"
"""A site was given up after repeated failures, or refused."""
SITE_SILENT = "SiteSilent"
"""A site that is awaited has not been heard of for long."""
POD_WAITING = "PodWaiting"
"""A Pod or its Secret cannot be made now, or the cluster says why it does not start yet."""
EDIT_NOT_USED = "EditNotUsed"
"""An edited manifest is not accepted; what was accepted before goes on."""
BY_SPEC = "BySpec"
"""spec.suspend says so."""
RUNNING = "Running"
"""It has not ended yet."""
FINISHED = "Finished"
"""Every record is there."""
SUCCEEDED = "Succeeded"
"""Of Ready, at the end: everything is done."""
CANNOT_GO_ON = "CannotGoOn"
"""The message says why; an edit of the spec or the annotation segviz.dev/retry asks for another try."""

_MESSAGE_LENGTH = 32000


@dataclass(frozen=True)
class Fact:
    type: str
    holds: bool
    reason: str
    message: str = ""


def build_conditions(
    facts: Iterable[Fact], before: Iterable[Mapping[str, Any]], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """As status.conditions: the time of a transition stays while nothing changes."""
    old = {each["type"]: each for each in before}
    return [_condition(fact, old.get(fact.type), generation, now) for fact in facts]


def _condition(fact: Fact, old: Mapping[str, Any] | None, generation: int, now: datetime) -> dict[str, Any]:
    status = "True" if fact.holds else "False"
    same = old is not None and old["status"] == status
    since = old["lastTransitionTime"] if same and old else f"{now:%Y-%m-%dT%H:%M:%SZ}"
    return {
        "type": fact.type,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": fact.reason,
        "message": fact.message[:_MESSAGE_LENGTH],
    }


def condition_of(status: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    return next((each for each in status.get("conditions") or () if each["type"] == type_), None)


def holds(status: Mapping[str, Any], type_: str) -> bool:
    found = condition_of(status, type_)
    return found is not None and found["status"] == "True"
