"""What a federation remembers of its sites: an annotation that says which site each alias has stood for."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.names import Subject
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.manifest import Federation
from segviz_operator.manifests.past import DigestedSite
from segviz_operator.plan.workload import WorkloadRole

log = logging.getLogger(__name__)

KnownSites = dict[str, DigestedSite]


def known_sites(metadata: Mapping[str, Any]) -> KnownSites:
    text = (metadata.get("annotations") or {}).get(names.KNOWN_SITES)
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=KnownSites)
    except msgspec.DecodeError:
        where = f"{metadata['namespace']}/{metadata['name']}"
        log.warning("%s: the annotation %s is damaged, and is written anew", where, names.KNOWN_SITES)
        return {}


def remembering(
    metadata: Mapping[str, Any], accepted: Accepted, signed: str | None = None
) -> dict[str, Any] | None:
    """A patch of a federation's metadata: the finalizer, the sites as they were accepted now, and who signs.

    Nothing where both are there already."""
    known = known_sites(metadata)
    now = known | {alias: DigestedSite.of(site.key, site.spec) for alias, site in accepted.everyone.items()}
    finalizers = metadata.get("finalizers") or ()
    marked = {} if signed is None else {names.SIGNED: signed}
    held = metadata.get("annotations") or {}
    if names.FINALIZER in finalizers and now == known and marked.items() <= held.items():
        return None
    annotation = msgspec.json.encode(now, order="deterministic").decode()
    return {
        # A finalizer that somebody else adds meanwhile must not be lost.
        "resourceVersion": metadata["resourceVersion"],
        "finalizers": sorted({*finalizers, names.FINALIZER}),
        "annotations": {names.KNOWN_SITES: annotation, **marked},
    }


def secrets_of(
    subject: Subject, metadata: Mapping[str, Any], federation: Federation | None
) -> frozenset[tuple[str, str]]:
    """Namespace and name of every Secret that the operator may have made for a federation."""
    places = {alias: site.key.partition("/")[0] for alias, site in known_sites(metadata).items()}
    if federation is not None:
        spec = federation.spec
        members = (*spec.sites, *spec.evaluation.sites)
        places |= {member.alias: member.site_ref.namespace for member in members}
    found = {
        (subject.namespace, names.secret_name(subject, None, role))
        for role in (WorkloadRole.AGGREGATOR, WorkloadRole.EXPORT)
    }
    for alias, namespace in places.items():
        found.add((namespace, names.secret_name(subject, alias, WorkloadRole.TRAINER)))
        found.add((namespace, names.join_secret_name(subject, alias)))
    return frozenset(found)
