"""What a site's record says of itself, held against its key: a site may write anything below its own name."""

from segviz_exchange.contract import keys
from segviz_exchange.contract.fingerprint import Fingerprint
from segviz_exchange.contract.records import (
    ExternalScores,
    Final,
    Outcome,
    Record,
    RoundScores,
    Update,
    Variant,
)


def fault_of_claim(key: str, record: Record) -> str | None:
    """Why a site's record is not what its key promises, though it is one of that kind; or None."""
    if not key.startswith(keys.SITES):
        return None
    own = _own_key(record)
    if own is None:
        return None
    if own != key:
        return f"it says that it belongs at {own}"
    if isinstance(record, Outcome | ExternalScores):
        return _fault_of_variants(record)
    return None


def _own_key(record: Record) -> str | None:
    """Where a record belongs, as far as it says so itself."""
    if isinstance(record, Update):
        return keys.update(record.site, record.round, record.attempt)
    if isinstance(record, RoundScores):
        return keys.scores(record.site, record.round)
    if isinstance(record, Outcome):
        return keys.outcome(record.site)
    if isinstance(record, Fingerprint):
        return keys.fingerprint(record.site)
    return keys.external_scores(record.site) if isinstance(record, ExternalScores) else None


def fault_of_outcome(outcome: Outcome, final: Final) -> str | None:
    """Why an outcome says nothing of the final model, or None."""
    if outcome.round == final.round:
        return None
    return (
        f"{keys.outcome(outcome.site)}: is about round {outcome.round}; "
        f"the final model is that of round {final.round}"
    )


def _fault_of_variants(record: Outcome | ExternalScores) -> str | None:
    # A site that had left when the final model was chosen has tested nothing.
    if isinstance(record, Outcome) and not record.variants:
        return None
    return None if Variant.BASE in record.variants else f"it has no scores of {Variant.BASE}"
