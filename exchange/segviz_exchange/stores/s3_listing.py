"""Listing a bucket page by page, as far as anybody needs: a store, or a site, could make it endless."""

import time
from collections.abc import Callable, Iterator
from typing import cast

from minio import Minio
from minio.datatypes import Object, parse_list_objects
from minio.helpers import DictType

from segviz_exchange.stores.store import LISTING_SECONDS, MAX_LISTED, Endless, Entry

PAGE_KEYS = 1000
_MOST_PAGES = 2 * MAX_LISTED // PAGE_KEYS
"""Twice as many as full pages would be: one without a key is allowed, and more could follow."""


def listed(
    client: Minio,
    bucket: str,
    root: str,
    prefix: str,
    clock: Callable[[], float] = time.monotonic,
) -> list[Entry]:
    """Objects below `root` whose keys there start with `prefix`.

    Raises:
        Endless: more than MAX_LISTED objects, or than that takes LISTING_SECONDS.
    """
    until, entries = clock() + LISTING_SECONDS, list[Entry]()
    for number, page in enumerate(_pages(client, bucket, root + prefix)):
        entries += [
            Entry(item.object_name.removeprefix(root), item.size or 0, item.last_modified)
            for item in page
            # A gateway to a file system may show folders, which hold no object.
            if item.object_name and item.last_modified and not item.object_name.endswith("/")
        ]
        if len(entries) > MAX_LISTED:
            raise Endless(prefix, f"holds more than {MAX_LISTED} objects", entries)
        if number + 1 >= _MOST_PAGES or clock() > until:
            raise Endless(prefix, f"was not listed within {LISTING_SECONDS:g} s", entries)
    return entries


def _pages(client: Minio, bucket: str, prefix: str) -> Iterator[list[Object]]:
    token: str | None = None
    seen: set[str] = set()
    while True:
        # Also where they are empty: a policy may ask for them.
        query = {"list-type": "2", "delimiter": "", "max-keys": str(PAGE_KEYS), "prefix": prefix}
        # As written, control characters would break the XML.
        query["encoding-type"] = "url"
        if token:
            query["continuation-token"] = token
        # One level below the client's list_objects, which asks for pages without an end.
        answer = client._execute("GET", bucket, query_params=cast(DictType, query))
        objects, truncated, token, _ = parse_list_objects(answer)
        yield objects
        if not truncated:
            return
        if not token or token in seen:
            # To stop here would look as if the rest were not there.
            raise Endless(prefix, "is listed by a store that repeats itself", [])
        seen.add(token)
