"""Whose signature counts where, from one control to the next."""

from collections.abc import Mapping

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from segviz_exchange.contract.records import Control
from segviz_exchange.stores.keyring import Writers


def certified(
    desired: Mapping[str, Writers] | None, newest: Control | None
) -> dict[str, Writers] | UnsetType:
    """What the next control says.

    Args:
        desired: by folder; none where records are not signed, or nobody says now.
    """
    if newest is None:
        return UNSET if desired is None else dict(desired)
    if isinstance(newest.writers, UnsetType) or desired is None:
        return newest.writers  # what was begun unsigned ends unsigned
    return {
        **newest.writers,
        **{folder: _next(newest.writers.get(folder), each) for folder, each in desired.items()},
    }


def _next(known: Writers | None, wanted: Writers) -> Writers:
    """Records that an earlier key has signed stay; who was let in without a key goes on without."""
    if known is None:
        return wanted
    kept = tuple(key for key in known.keys if key not in wanted.keys)
    return replace(wanted, keys=(*wanted.keys, *kept) if known.keys else ())
