"""A run before its first turn: all that it needs, read and checked, or refused."""

from dataclasses import dataclass, replace
from pathlib import Path

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.probe import probe
from segviz_exchange.stores.store import Store, StoreError
from segviz_operator.local.files import Edits
from segviz_operator.local.identity import Identity, claim
from segviz_operator.local.signing import share_keys
from segviz_operator.local.wishes import Request, Wishes, first_wishes, next_wishes
from segviz_operator.local.workdir import WorkDir
from segviz_operator.manifests.desired import desired_of
from segviz_operator.plan.decide import Desired, failure_of
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.observe import Observer
from segviz_operator.watch.metrics import OperatorMetrics


@dataclass(frozen=True)
class Bucket:
    """Where the federation's records are, and what they said when it was opened."""

    store: Store
    observer: Observer
    records: FederationRecords


@dataclass(frozen=True)
class OpenRun:
    request: Request
    workdir: WorkDir
    identity: Identity
    wishes: Wishes
    bucket: Bucket
    edits: Edits

    @property
    def desired(self) -> Desired:
        """Running a failed federation again asks for another try."""
        desired, records = desired_of(self.wishes.accepted), self.bucket.records
        control = records.control
        if control is None or not failure_of(control, records.observed()):
            return desired
        return replace(desired, retried=control.number)


def open_run(request: Request, workdir: WorkDir, metrics: OperatorMetrics) -> OpenRun:
    """Leaves no record: what the probe of a store writes, it takes away again.

    Raises:
        Refusal: the manifests, the folder, the store or the data cannot be used.
    """
    edits = Edits(request.files)  # first: an edit that comes while all this is read is then seen
    known, own, files = workdir.identity(), workdir.bucket, request.files.paths
    if known is None:
        wishes = first_wishes(request, own)
        identity = claim(None, wishes.accepted, files, request.store, own)
        share_keys(identity, workdir)
        bucket = _open_bucket(identity, own, metrics)
    else:
        # What has been delivered decides what the manifests may still say.
        bucket = _open_bucket(known, own, metrics)
        wishes = next_wishes(request, known, bucket.records)
        identity = claim(known, wishes.accepted, files, request.store, own)
        share_keys(identity, workdir)
    return OpenRun(request, workdir, identity, wishes, bucket, edits)


def _open_bucket(identity: Identity, own: Path, metrics: OperatorMetrics) -> Bucket:
    """Look at the store, and whether it can hold a federation where it is none of ours."""
    store = metrics.measured(identity.open_store())
    observer = Observer(store)
    try:
        if identity.store != str(own):
            probe(store)
        return Bucket(store, observer, observer.read())
    except StoreError as error:
        raise Refusal(
            f"store {identity.store}: {type(error).__name__}: {error}. Check --store and its "
            "credentials, or leave --store out to use a folder."
        ) from error
