"""Jobs with a federation's labels that the operator has not made count for nothing."""

from typing import Any

import pytest

from segviz_operator.cluster.api.names import (
    ATTEMPT,
    KNOWN_SITES,
    ROLE,
    SITE,
    Subject,
    consent_name,
    job_name,
)
from segviz_operator.cluster.membership.provenance import homes_of, own_jobs
from segviz_operator.cluster.objects.jobs import job_seen
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.plan.workload import WorkloadRole

SUBJECT = Subject("radiology", "abdomen", "uid-1")
CONSENTS = {
    place: Owner(
        "rbac.authorization.k8s.io/v1", "RoleBinding", consent_name("radiology", "abdomen"), f"rb-{place}"
    )
    for place in ("basel", "bern")
}
KNOWN = '{"left": {"key": "bern/ct", "fixed": {}}}'


def raw(**annotations: str) -> dict[str, Any]:
    sites = [{"alias": alias, "siteRef": {"namespace": alias, "name": "ct"}} for alias in ("basel", "bern")]
    external = [{"alias": "chur", "siteRef": {"namespace": "chur", "name": "ct"}}]
    metadata = {"namespace": "radiology", "name": "abdomen", "uid": "uid-1", "annotations": annotations}
    return {"metadata": metadata, "spec": {"sites": sites, "evaluation": {"sites": external}}}


def job(
    role: WorkloadRole = WorkloadRole.TRAINER,
    site: str | None = "basel",
    namespace: str = "basel",
    owner: str | None = "rb-basel",
    name: str | None = None,
    attempt: int = 1,
) -> dict[str, Any]:
    labels = {ROLE: role.lower(), ATTEMPT: str(attempt), **({} if site is None else {SITE: site})}
    kind = {"apiVersion": "v1", "kind": "Any", "name": consent_name("radiology", "abdomen"), "uid": owner}
    metadata = {
        "namespace": namespace,
        "name": name or job_name(SUBJECT, role, site, attempt),
        "uid": "job",
        "labels": labels,
        "ownerReferences": [] if owner is None else [kind],
    }
    return {"metadata": metadata, "spec": {}}


def counts(job: dict[str, Any], federation: dict[str, Any] | None = None) -> bool:
    seen = job_seen(job)
    assert seen is not None
    return own_jobs([seen], SUBJECT, homes_of(federation or raw()), CONSENTS.get) == (seen,)


AGGREGATOR = {"role": WorkloadRole.AGGREGATOR, "site": None, "namespace": "radiology", "owner": "uid-1"}
OWN: dict[str, dict[str, Any]] = {
    "the aggregator": AGGREGATOR,
    "the export": {**AGGREGATOR, "role": WorkloadRole.EXPORT},
    "a trainer": {"attempt": 7},
    "another site's": {"site": "bern", "namespace": "bern", "owner": "rb-bern"},
}


@pytest.mark.parametrize("described", OWN.values(), ids=OWN)
def test_the_operators_own_count(described: dict[str, Any]):
    assert counts(job(**described))


FORGED: dict[str, dict[str, Any]] = {
    "an aggregator in a namespace that consents to nothing": {
        **AGGREGATOR,
        "namespace": "else",
        "attempt": 999,
    },
    "an aggregator at a site, owned by its consent": {
        **AGGREGATOR,
        "namespace": "basel",
        "owner": "rb-basel",
    },
    "an aggregator that nobody owns": {**AGGREGATOR, "owner": None, "attempt": 999},
    "an aggregator of another federation": {**AGGREGATOR, "owner": "uid-2"},
    "an aggregator with a site": {**AGGREGATOR, "site": "basel"},
    "a trainer without a site": {"site": None, "namespace": "radiology", "owner": "uid-1"},
    "a trainer where its site is not": {"site": "bern", "attempt": 999},
    "a trainer of a site that nobody named": {"site": "zug"},
    "a trainer beside the federation": {"namespace": "radiology", "owner": "uid-1"},
    "a trainer that the federation owns": {"owner": "uid-1"},
    "a trainer that a withdrawn consent owns": {"owner": "rb-before"},
    "a trainer that nobody owns": {"owner": None},
    "a trainer without consent": {"site": "chur", "namespace": "chur", "owner": "rb-chur"},
    "a trainer with another name": {"name": "segviz-trainer-basel-999"},
    "a trainer with another attempt's name": {
        "name": job_name(SUBJECT, WorkloadRole.TRAINER, "basel", 1),
        "attempt": 999,
    },
}


@pytest.mark.parametrize("described", FORGED.values(), ids=FORGED)
def test_a_forged_one_does_not(described: dict[str, Any]):
    assert not counts(job(**described))


def test_one_of_a_site_that_is_no_longer_named_counts_until_it_is_gone():
    left = job(site="left", namespace="bern", owner="rb-bern")
    assert not counts(left)
    assert counts(left, raw(**{KNOWN_SITES: KNOWN}))
