"""Whether a federation's records are signed: decided when it begins, and never by what lies in the bucket."""

from collections.abc import Callable, Mapping
from typing import Any

from segviz_exchange.contract import keys
from segviz_exchange.stores.signing import split
from segviz_exchange.stores.store import NotFound, Store
from segviz_operator.access.signing import Signing
from segviz_operator.cluster.api import names
from segviz_operator.cluster.reconcile.outcome import NotBegun

KEY_MISSING = "KeyMissing"
"""The federation's controls are signed with a key that this operator does not have."""
KEY_SECONDS = 60.0


def signing_of(raw: Mapping[str, Any], own: Signing | None, bucket: Callable[[], Store]) -> Signing | None:
    """None for a federation that an operator without a key has begun: it ends as it began.

    Args:
        own: the operator's.
        bucket: asked for what a federation adopts, and for nothing else. A site that has known these records
            as signed does not follow, if they are not any more.

    Raises NotBegun: the records need another key.
    """
    annotations = raw["metadata"].get("annotations") or {}
    signer = annotations.get(names.SIGNED)
    if signer is None:
        begun = names.KNOWN_SITES in annotations or (raw.get("status") or {}).get("currentRound") is not None
        adopts = ((raw.get("spec") or {}).get("store") or {}).get("adoptUid") is not None
        return None if begun or (adopts and _is_unsigned(bucket())) else own
    if own is None or own.public != signer:
        held = "no key" if own is None else f"the key {own.public[:12]}…"
        raise NotBegun(
            KEY_MISSING,
            f"the records of this federation are signed with the operator's key {signer[:12]}…, and this "
            f"operator has {held}. Restore the Secret segviz-operator-key in the operator's namespace from "
            "its backup, and restart the operator; or make the federation anew.",
            KEY_SECONDS,
        )
    return own


def _is_unsigned(bucket: Store) -> bool:
    try:
        return split(bucket.get(keys.control(1)))[1] is None
    except NotFound:
        return False
