"""Which Jobs are the operator's own: whoever may make one in any watched namespace can give it our labels."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.membership.known_sites import known_sites
from segviz_operator.cluster.objects.jobs import JobSeen
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.plan.workload import SITE_TASKS

Homes = frozenset[tuple[str, str]]
"""Alias and namespace of each site that a federation names, or has named."""


def homes_of(raw: Mapping[str, Any]) -> Homes:
    spec = raw.get("spec") or {}
    members = (*(spec.get("sites") or ()), *((spec.get("evaluation") or {}).get("sites") or ()))
    named = {(each["alias"], each["siteRef"]["namespace"]) for each in members}
    known = known_sites(raw["metadata"]).items()
    return frozenset(named | {(alias, site.key.partition("/")[0]) for alias, site in known})


def is_in_place(job: JobSeen, subject: Subject, homes: Homes) -> bool:
    """Its namespace is the role's, and its name the one that we would give it; says nothing of its owner."""
    if (job.site is not None) != (job.role in SITE_TASKS):
        return False
    at_home = job.namespace == subject.namespace if job.site is None else (job.site, job.namespace) in homes
    return at_home and job.name == names.job_name(subject, job.role, job.site, job.attempt)


def own_jobs(
    jobs: Iterable[JobSeen], subject: Subject, homes: Homes, consent_in: Callable[[str], Owner | None]
) -> tuple[JobSeen, ...]:
    """Those that belong to the federation or to the consent where they run.

    What a withdrawn consent owned is no longer ours: it is the garbage collector's.
    """

    def owner_uid(job: JobSeen) -> str | None:
        if job.site is None:
            return subject.uid
        consent = consent_in(job.namespace)
        return None if consent is None else consent.uid

    return tuple(
        job
        for job in jobs
        # The owner last: only where a site is at home does the operator ask for its consent.
        if is_in_place(job, subject, homes) and job.owner is not None and job.owner.uid == owner_uid(job)
    )
