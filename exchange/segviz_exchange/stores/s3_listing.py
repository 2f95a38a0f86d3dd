"""Listing a bucket page by page, as far as anybody needs: a store, or a site, could make it endless."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from minio import Minio
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
        entries += (Entry(each.key.removeprefix(root), each.size_bytes, each.modified) for each in page)
        if len(entries) > MAX_LISTED:
            raise Endless(prefix, f"holds more than {MAX_LISTED} objects", entries)
        if number + 1 >= _MOST_PAGES or clock() > until:
            raise Endless(prefix, f"was not listed within {LISTING_SECONDS:g} s", entries)
    return entries


def _pages(client: Minio, bucket: str, prefix: str) -> Iterator[tuple[Entry, ...]]:
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
        page = parse_page(answer.data)
        yield page.entries
        if not page.truncated:
            return
        token = page.token
        if not token or token in seen:
            # To stop here would look as if the rest were not there.
            raise Endless(prefix, "is listed by a store that repeats itself", [])
        seen.add(token)


@dataclass(frozen=True)
class Page:
    entries: tuple[Entry, ...]
    """Under whole keys."""
    truncated: bool
    token: str | None
    """With which to ask for the next page."""


def parse_page(body: bytes) -> Page:
    """An answer to ListObjectsV2. The client's own parser takes ten times as long, and a bucket that many
    watch is listed all the time.

    Raises:
        ParseError: it is no XML.
        ValueError: it is no listing.
    """
    root = ElementTree.fromstring(body.decode())
    told = _texts(root)
    if "Name" not in told:
        raise ValueError("it has no Name")
    quoted = told.get("EncodingType") == "url"
    objects = [_texts(each) for each in root if each.tag.endswith("Contents")]
    found = (_entry(each, quoted) for each in objects)
    # Where a store names no token, the last key is what it goes on from.
    last = _key(objects[-1], quoted) if objects else None
    return Page(
        tuple(each for each in found if each is not None),
        truncated=told.get("IsTruncated", "").lower() == "true",
        token=told.get("NextContinuationToken") or last,
    )


def _texts(element: ElementTree.Element) -> dict[str, str]:
    """Of its children, by name without the namespace."""
    return {each.tag.rpartition("}")[2]: each.text or "" for each in element}


def _key(told: dict[str, str], quoted: bool) -> str:
    if "Key" not in told:
        raise ValueError("an object has no Key")
    return unquote_plus(told["Key"]) if quoted else told["Key"]


def _entry(told: dict[str, str], quoted: bool) -> Entry | None:
    """None for what a gateway to a file system may show: a folder, which holds no object."""
    key = _key(told, quoted)
    if not key or key.endswith("/") or "LastModified" not in told:
        return None
    modified = datetime.fromisoformat(told["LastModified"])
    return Entry(key, int(told.get("Size", 0)), modified if modified.tzinfo else modified.replace(tzinfo=UTC))
