"""What the operator remembers of one federation between two turns: nothing that it could not read again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from segviz_exchange.contract.spec import StoreSpec
from segviz_exchange.stores.certified import Certified
from segviz_exchange.stores.keyring import Writers
from segviz_exchange.stores.signed import SignedStore
from segviz_exchange.stores.signing import PublicKey
from segviz_exchange.stores.store import Store
from segviz_operator.access.signing import Signing
from segviz_operator.access.web_identity import WebIdentity
from segviz_operator.cluster.api.client import (
    SECRETS,
    Cluster,
    ClusterError,
    Forbidden,
    Missing,
    Object,
)
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.credentials.store_access import LOOK_SECONDS, StoreAccess, read_access
from segviz_operator.cluster.credentials.store_secret import SecretSeen, secret_seen
from segviz_operator.cluster.objects.jobs import JobSeen
from segviz_operator.cluster.objects.pods import End, Waiting, end_of
from segviz_operator.cluster.objects.waiting import active_pod, look_at_pod, look_for_pod, pods_of
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.observe import Observer

SECRETS_SECONDS = 600.0
"""After this the operator looks whether the Secrets it made are still there."""
WAITING_SECONDS = 5.0
"""A Pod has this long to start before anybody asks why it does not."""
SETTLED_SECONDS = 60.0
"""What runs in a Pod has this long to be heard of: its first heartbeat comes before it reads an image."""


@dataclass
class Memory:
    subject: Subject
    measured: Callable[[Store], Store]
    """The same store, its requests counted."""
    clock: Callable[[], float] = time.monotonic
    identity: WebIdentity | None = None
    """The operator's own, for stores that take it."""
    secrets: dict[tuple[str, str], tuple[SecretSeen, float]] = field(default_factory=dict)
    """By namespace and name, with the time of the look."""
    forgotten: set[str] = field(default_factory=set)
    """UIDs of Jobs that were deleted, which the watch may still show."""
    ending_since: float | None = None
    """When this process first met the federation's deletion (monotonic)."""
    purge_fails_since: float | None = None
    """When the store first refused to be emptied, and has ever since."""
    keyring: Certified | None = None
    """With what this process has seen of the records, where they are signed."""
    signing: Signing | None = None
    """None where they are not."""
    records: FederationRecords | None = None
    read_at: float = float("-inf")
    _access: StoreAccess | None = None
    _access_until: float = float("-inf")
    _store: Store | None = None
    _observer: Observer | None = None
    _renew_at: datetime | None = None
    _ends: dict[str, End] = field(default_factory=dict)
    _podless: dict[str, datetime] = field(default_factory=dict)
    """When a Job was first seen to have no Pod, by its UID."""
    _running: dict[str, float] = field(default_factory=dict)
    """When a Job's Pod was first seen to run (monotonic), by the Job's UID."""

    # --- the store --------------------------------------------------------------------------------

    def access(self, cluster: Cluster, spec: StoreSpec) -> StoreAccess:
        """Raises NoCredentials."""
        now = self.clock()
        if self._access is None or now >= self._access_until or self._access.spec != spec:
            access = read_access(cluster, self.subject, spec, self.identity)
            if access != self._access:
                self._store = None
            self._access, self._access_until = access, now + LOOK_SECONDS
        return self._access

    def open(self, access: StoreAccess, signing: Signing | None = None) -> tuple[Store, Observer]:
        """
        Args:
            signing: with which records are signed and verified.
        """
        now = datetime.now(UTC)
        due = self._renew_at is not None and now >= self._renew_at
        if self._store is None or self._observer is None or due:
            store, self._renew_at = access.open(now)
            self._store = self.measured(store)
            if self._observer is None:
                self._observer = Observer(self._store)
        store = self._store
        if signing is not None:
            prefix = self.subject.prefix
            self.keyring = self.keyring or signing.keyring(prefix)
            store = SignedStore(store, self.keyring, prefix)
        self.signing = signing
        self._observer.reopen(store)
        return store, self._observer

    @property
    def signer(self) -> PublicKey | None:
        return None if self.signing is None else self.signing.public

    def writers(self, sites: Mapping[str, PublicKey | None]) -> dict[str, Writers] | None:
        """Who may write where, by the sites' keys; none where records are not signed."""
        return None if self.signing is None else self.signing.writers(self.subject.prefix, sites)

    def read(self, observer: Observer, newer_than: float) -> FederationRecords:
        """The records as they were at `newer_than` (monotonic) or later."""
        if self.records is None or self.read_at < newer_than:
            started = self.clock()
            self.records, self.read_at = observer.read(), started
        return self.records

    # --- Secrets ----------------------------------------------------------------------------------

    def secret(self, cluster: Cluster, namespace: str, name: str) -> SecretSeen | None:
        """What a Secret says, looked at now and then: somebody may have deleted it."""
        known = self.secrets.get((namespace, name))
        if known is not None and self.clock() - known[1] < SECRETS_SECONDS:
            return known[0]
        found = cluster.get(SECRETS, namespace, name)
        if found is None:
            self.secrets.pop((namespace, name), None)
            return None
        return self.saw_secret(found)

    def saw_secret(self, secret: Object) -> SecretSeen:
        seen, metadata = secret_seen(secret), secret["metadata"]
        self.secrets[metadata["namespace"], metadata["name"]] = (seen, self.clock())
        return seen

    def expirations(self) -> dict[str, datetime]:
        """When the credentials that were given out end, by alias; "" is the aggregator."""
        return {
            seen.alias: seen.expires_at for seen, _ in self.secrets.values() if seen.expires_at is not None
        }

    def distrust_store(self) -> None:
        """The store refused what is remembered: read the Secret again, and take new credentials."""
        self._store, self._access_until = None, float("-inf")

    # --- Pods -------------------------------------------------------------------------------------

    def end_of(self, cluster: Cluster, job: JobSeen) -> End | None:
        """How an ended Job's Pod ended; read once, for it changes no more."""
        if job.uid not in self._ends:
            try:
                found = end_of(pods_of(cluster, job), job.role.lower())
            except (Forbidden, Missing):
                return None
            if found is None:
                return None
            self._ends[job.uid] = found
        return self._ends[job.uid]

    def settled(self, job: JobSeen) -> bool:
        """Whether its Pod has run for a while, as far as this process has seen."""
        if not job.ready or job.deleting or job.finished_at is not None:
            self._running.pop(job.uid, None)
            return False
        return self.clock() - self._running.setdefault(job.uid, self.clock()) >= SETTLED_SECONDS

    def waiting(self, cluster: Cluster, job: JobSeen, patience: timedelta) -> Waiting:
        """Why a Job's Pod does not run, where it has had time to start; stuck once that lasts `patience`."""
        if job.ready or job.deleting:
            self._podless.pop(job.uid, None)
            return Waiting()
        if job.suspended:
            return Waiting("queued; Kueue starts it when its turn comes")
        began, now = job.started_at or job.created_at, datetime.now(UTC)
        if began is None or now - began < timedelta(seconds=WAITING_SECONDS):
            return Waiting()
        try:
            pod = active_pod(pods_of(cluster, job))
            if pod is not None:
                self._podless.pop(job.uid, None)
                return look_at_pod(cluster, pod, now, patience)
            return look_for_pod(cluster, job, now, patience, self._podless.setdefault(job.uid, now))
        except (Forbidden, Missing):
            return Waiting()
        except ClusterError as error:
            return Waiting(str(error))
