"""Whether a site's owner has agreed to a federation: to its name, to its UID, and to what it asks."""

from collections.abc import Iterator
from dataclasses import dataclass

from segviz_exchange.contract.limits import beyond
from segviz_operator.manifests.case import Case
from segviz_operator.manifests.manifest import Federation, Site
from segviz_operator.manifests.problem import Problem

NOT_CONSENTED = "NotConsented"
"""A site's allowedFederations does not name the federation."""
BEYOND_LIMITS = "BeyondLimits"
"""The federation asks more of a site than the site's limits allow."""


@dataclass(frozen=True)
class No:
    reason: str
    why: str
    fix: str


def no_of(site: Site, federation: Federation) -> No | None:
    """Why a site's manifest keeps a federation out; none where it lets it in."""
    key, uid = federation.key, federation.uid
    if not site.allows(key):
        fix = f"Ask its owner to add {key} to its spec.allowedFederations."
        return No(NOT_CONSENTED, f"its spec.allowedFederations does not list {key}", fix)
    if not site.allows(key, uid):
        what = f"its spec.allowedFederations lists {key} with another UID; this one was made anew, as {uid}"
        return No(NOT_CONSENTED, what, f"Ask its owner to list it with uid: {uid}.")
    if said := "; ".join(beyond(site.spec.limits, federation.spec)):
        return No(BEYOND_LIMITS, f"its {said}", "Change the federation, or ask the site's owner.")
    return None


def not_consented(case: Case) -> Iterator[Problem]:
    for entry in case.entries:
        if entry.site is None or case.has_withdrawn(entry):
            continue
        no = no_of(entry.site, case.federation)
        if no is not None:
            what = "has not consented to this federation"
            if no.reason == BEYOND_LIMITS:
                what = f"does not take part in this: {no.why}"
            yield case.problem(no.reason, f"{entry.path}.siteRef", what, no.fix, entry.key)
