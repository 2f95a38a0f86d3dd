"""Remote sites are left their next credentials in the bucket, before the old ones expire."""

from collections.abc import Callable
from datetime import datetime, timedelta

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import numbered
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import Credentials, decode_credentials, encode_credentials
from segviz_exchange.stores.store import AlreadyExists, Store


def renew(
    store: Store, alias: str, mint: Callable[[], Credentials], lifetime_seconds: int, now: datetime
) -> Credentials | None:
    """Leave a remote site its next credentials if they are due; returns what was left.

    Those that never expire are due when whoever gives them out has changed them. The ones before the last
    go: a key that nobody will use any more should not lie about.
    """
    number, newest = newest_remote(store, alias)
    if newest is not None and newest.expiration and not is_due(newest, lifetime_seconds, now):
        return None
    fresh = mint()
    if fresh == newest:
        return None
    hand_over(store, alias, number + 1, fresh)
    if number > 1:
        store.delete(keys.credential(alias, number - 1))
    return fresh


def credentials_to_tell(
    store: Store,
    alias: str,
    mint: Callable[[], Credentials],
    lifetime_seconds: int,
    now: datetime,
    told: bool,
) -> Credentials | None:
    """What a remote site's join file should say from now on; nothing where it says so already.

    Args:
        now: by the store's clock.
        told: whether there is a join file.
    """
    fresh = renew(store, alias, mint, lifetime_seconds, now)
    if fresh is not None or told:
        return fresh
    # Whoever was killed between the two has left credentials in the store, and no join file.
    return newest_remote(store, alias)[1]


def newest_remote(store: Store, alias: str) -> tuple[int, Credentials | None]:
    """Number of the newest credentials left for a remote site, and they themselves; 0 where none are."""
    left = numbered(store, keys.credentials(alias))
    if not left:
        return 0, None
    number = max(left)
    key = left[number].key
    try:
        return number, decode_credentials(store.get(key), key)
    except Refusal:
        return number, None


def hand_over(store: Store, alias: str, number: int, credentials: Credentials) -> None:
    """Leave a remote site its next credentials. Another operator's, left meanwhile, are as good."""
    try:
        store.create(keys.credential(alias, number), encode_credentials(credentials))
    except AlreadyExists:
        return


def is_due(credentials: Credentials, lifetime_seconds: int, now: datetime) -> bool:
    """Whether to mint the next ones: at half their life, so that half of it is left to hand them over."""
    if credentials.expiration is None:
        return False
    return now >= credentials.expiration - timedelta(seconds=lifetime_seconds / 2)
