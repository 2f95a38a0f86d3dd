"""Whose records these are: a federation may go on with those of an earlier one, whose cluster was lost.

It names the earlier one's UID in its manifest, and says so in the bucket, once: from then on the earlier one
does nothing more there, should its cluster come back.
"""

from collections.abc import Iterator
from datetime import timedelta

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import commit
from segviz_exchange.contract.records import Holder
from segviz_exchange.contract.spec import FederationSpec
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.reconcile.outcome import Bucket, NotBegun
from segviz_operator.progress.facts import FederationRecords

TAKEN_OVER = "TakenOver"
"""Another federation goes on with these records."""
NOTHING_TO_ADOPT = "NothingToAdopt"
"""There are no records of the federation that spec.store.adoptUid names."""
STILL_ALIVE = "StillAlive"
"""Somebody of the federation that spec.store.adoptUid names is at work."""
ADOPTED_DIFFERS = "AdoptedDiffers"
"""What is adopted has begun with another manifest."""
RECORDS_MISSING = "RecordsMissing"
"""Training has begun, and the bucket holds no records of it."""

LOOK_SECONDS = 10.0
"""Until a federation that must wait for another one's end looks again."""
_FIXED = {
    "rounds": "rounds",
    "localEpochs": "local_epochs",
    "seed": "seed",
    "algorithm": "algorithm",
    "objective": "objective",
    "distillation": "distillation",
    "pseudoLabels": "pseudo_labels",
    "model": "model",
    "preprocessing": "preprocessing",
    "training": "training",
    "selection": "selection",
    "fineTuning": "fine_tuning",
}
"""What must not change once training has begun; for one and the same object, the CRD's rules see to it."""


def is_holder(subject: Subject, holder: Holder | None) -> bool:
    return subject.uid == (subject.records_uid if holder is None else holder.uid)


def hold(
    bucket: Bucket,
    subject: Subject,
    spec: FederationSpec,
    records: FederationRecords,
    remote: frozenset[str],
    silent_after: timedelta,
) -> None:
    """Make sure that the records are this federation's to go on with.

    Args:
        remote: aliases of sites outside any cluster, which are at work whatever becomes of one.

    Raises NotBegun.
    """
    if is_holder(subject, records.holder):
        return
    if subject.adopted is None:
        assert records.holder is not None, "without one, they are of who began them"
        raise NotBegun(TAKEN_OVER, _taken_over(records.holder), LOOK_SECONDS)
    if records.control is None:
        raise NotBegun(
            NOTHING_TO_ADOPT,
            f"spec.store.adoptUid: there are no records under {subject.prefix}. Name the UID with which the "
            "folder in the bucket ends, or leave it out and begin anew.",
            LOOK_SECONDS,
        )
    if alive := "; ".join(_alive(records, remote, silent_after)):
        raise NotBegun(
            STILL_ALIVE,
            f"spec.store.adoptUid: the earlier federation is at work: {alive}. Stop it. This one goes on "
            f"once all have been silent for {silent_after.total_seconds():.0f} s.",
            LOOK_SECONDS,
        )
    begun = records.control.spec
    if differing := [field for field, name in _FIXED.items() if getattr(begun, name) != getattr(spec, name)]:
        raise NotBegun(
            ADOPTED_DIFFERS,
            f"spec.store.adoptUid: the earlier federation has begun with another {', '.join(differing)}. "
            "Write what it had; its newest record in control/ says it.",
            LOOK_SECONDS,
        )
    number = 1 if records.holder is None else records.holder.number + 1
    held = commit(bucket.store, keys.holder(number), Holder(number, subject.uid))
    if held.uid != subject.uid:
        raise NotBegun(TAKEN_OVER, _taken_over(held), LOOK_SECONDS)


def without_records(bucket: Bucket, subject: Subject) -> NotBegun:
    """A store that was changed or emptied: to begin again in it would lose what has been trained."""
    where = f"{bucket.access.spec.url}/{subject.prefix}"
    return NotBegun(
        RECORDS_MISSING,
        f"training has begun, and {where} holds no records of it. Correct spec.store, or bring the bucket's "
        "contents back; to begin anew, make the federation anew.",
        LOOK_SECONDS,
    )


def _taken_over(holder: Holder) -> str:
    return (
        f"another federation of this name, with the UID {holder.uid}, goes on with these records "
        "(its spec.store.adoptUid). Delete this one; the bucket's contents stay."
    )


def _alive(records: FederationRecords, remote: frozenset[str], silent_after: timedelta) -> Iterator[str]:
    beats = {"the aggregator": records.aggregator}
    beats |= {f"site {alias}": site.heartbeat for alias, site in records.sites.items() if alias not in remote}
    for who, beat in beats.items():
        if beat is not None and (age := records.now - beat.modified) < silent_after:
            yield f"{who} wrote its heartbeat {max(0.0, age.total_seconds()):.0f} s ago"
