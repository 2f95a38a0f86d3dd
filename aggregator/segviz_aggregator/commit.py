"""The aggregator's commit points. Each is one create; what is already there is the truth and is adopted."""

import logging

from segviz_aggregator.scratch import Blob
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import Ledger
from segviz_exchange.contract.records import Closing, Failure, Final, Round
from segviz_exchange.stores.store import Store

log = logging.getLogger(__name__)


def commit_closing(ledger: Ledger, closing: Closing) -> Closing:
    """From here on the round's model is decided."""
    committed = ledger.commit(keys.closing(closing.round), closing)
    excluded = ", ".join(f"{exclusion.site} ({exclusion.reason})" for exclusion in committed.exclusions)
    log.info(
        "round %d closed with %s%s",
        committed.round,
        ", ".join(participant.site for participant in committed.participants),
        f"; excluded {excluded}" if excluded else "",
    )
    return committed


def commit_round(
    store: Store, ledger: Ledger, closing: Closing, model: Blob, state: Blob | None = None
) -> Round:
    """The blobs first: a record never names one that is not there. `state` is the server optimiser's."""
    for path, digest in filter(None, (model, state)):
        store.upload(keys.global_blob(digest), path)
    path, digest = model
    record = Round(
        round=closing.round,
        control=closing.control,
        blob=digest,
        size_bytes=path.stat().st_size,
        participants=tuple(participant.site for participant in closing.participants),
        state=None if state is None else state.digest,
        state_bytes=0 if state is None else state.path.stat().st_size,
    )
    committed = ledger.commit(keys.round_record(record.round), record)
    if committed.blob != digest:
        log.error(
            "round %d: another aggregator committed %s…, this one computed %s…; theirs counts",
            record.round,
            committed.blob[:12],
            digest[:12],
        )
    log.info("round %d committed: %s…, %d bytes", record.round, committed.blob[:12], committed.size_bytes)
    return committed


def commit_failure(ledger: Ledger, failure: Failure) -> Failure:
    committed = ledger.commit(keys.failure(failure.round, failure.control), failure)
    log.error("round %d failed: %s: %s", committed.round, committed.reason, committed.message)
    return committed


def commit_final(ledger: Ledger, final: Final) -> Final:
    committed = ledger.commit(keys.FINAL, final)
    log.info("training is over; round %d is the federation's model", committed.round)
    return committed
