"""Whether a site's namespace lets a federation in: a RoleBinding that the site's own chart makes.

The right to read it is granted by that very RoleBinding, so "forbidden" and "not there" both mean no.
"""

import time
from collections.abc import Callable, Iterable

from segviz_operator.cluster.api.client import ROLE_BINDINGS, Cluster, Forbidden
from segviz_operator.cluster.api.names import Subject, consent_name
from segviz_operator.cluster.objects.jobs import JobSeen
from segviz_operator.cluster.objects.pod import Owner

NO_SECONDS = 30.0
"""Nobody tells the operator when a RoleBinding comes, so it looks this often."""
YES_SECONDS = 5.0
"""Without a Job to prove it, a consent may have been withdrawn just now."""


class Consents:
    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[Owner | None, float]] = {}

    def of(self, subject: Subject, namespace: str, jobs: Iterable[JobSeen]) -> Owner | None:
        name = consent_name(subject.namespace, subject.name)
        known, now = self._known.get((namespace, name)), self._clock()
        if known is not None and known[0] is not None and _prove(jobs, namespace, known[0]):
            return known[0]
        if known is not None and now - known[1] < (YES_SECONDS if known[0] else NO_SECONDS):
            return known[0]
        found = self._read(namespace, name)
        self._known[namespace, name] = (found, now)
        return found

    def forget(self, subject: Subject) -> None:
        name = consent_name(subject.namespace, subject.name)
        for key in [key for key in list(self._known) if key[1] == name]:
            self._known.pop(key, None)

    def _read(self, namespace: str, name: str) -> Owner | None:
        try:
            found = self._cluster.get(ROLE_BINDINGS, namespace, name)
        except Forbidden:
            return None
        if found is None or "deletionTimestamp" in found["metadata"]:
            return None
        return Owner("rbac.authorization.k8s.io/v1", "RoleBinding", name, found["metadata"]["uid"])


def _prove(jobs: Iterable[JobSeen], namespace: str, consent: Owner) -> bool:
    """Withdrawn consent takes its Jobs along, so that a Job that stays proves the one that was read before.

    It proves none that was not: an owner's name and UID can be written on any Job.
    """
    return any(job.namespace == namespace and not job.deleting and job.owner == consent for job in jobs)
