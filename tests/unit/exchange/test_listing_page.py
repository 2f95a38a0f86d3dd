"""A page of a bucket's listing, read as the client's own parser reads it."""

from datetime import UTC, datetime
from xml.etree.ElementTree import ParseError

import pytest
from minio.datatypes import parse_list_objects

from segviz_exchange.stores.s3_listing import parse_page
from segviz_exchange.stores.store import Entry

S3 = "http://s3.amazonaws.com/doc/2006-03-01/"


def page(*contents: str, rest: str = "<IsTruncated>false</IsTruncated>", namespace: str = S3) -> bytes:
    xmlns = f' xmlns="{namespace}"' if namespace else ""
    listed = "".join(f"<Contents>{each}</Contents>" for each in contents)
    head = f"<Name>bucket</Name><EncodingType>url</EncodingType>{rest}"
    return f"<?xml version='1.0'?><ListBucketResult{xmlns}>{head}{listed}</ListBucketResult>".encode()


def listed(key: str, modified: str = "2026-11-30T21:00:00.125Z", size: str = "<Size>7</Size>") -> str:
    etag = '<ETag>"d41d8cd98f00b204e9800998ecf8427e"</ETag>'
    owner = "<Owner><ID>1</ID><DisplayName>x</DisplayName></Owner>"
    return f"<Key>{key}</Key><LastModified>{modified}</LastModified>{etag}{size}{owner}"


class Answer:
    def __init__(self, data: bytes) -> None:
        self.data = data


ODD = page(
    listed("a/control/0001.json"),
    listed("a/sites/b%C3%A4le+1/x%2By.json", "2026-11-30T21:00:00Z"),
    listed("a/sites/", size=""),
    listed("a/sites/chur/progress.json", size=""),
)


@pytest.mark.parametrize("namespace", [S3, ""])
@pytest.mark.parametrize("body", [ODD, page()], ids=["some", "none"])
def test_it_is_read_as_the_client_reads_it(body: bytes, namespace: str) -> None:
    body = body.replace(f' xmlns="{S3}"'.encode(), f' xmlns="{namespace}"'.encode() if namespace else b"")
    theirs, truncated, _, _ = parse_list_objects(Answer(body))  # type: ignore[arg-type]
    ours = parse_page(body)
    assert ours.truncated == truncated
    assert [(each.key, each.size_bytes, each.modified) for each in ours.entries] == [
        (each.object_name, each.size or 0, each.last_modified)
        for each in theirs
        if each.object_name and not each.object_name.endswith("/")
    ]


def test_times_are_in_utc() -> None:
    (entry,) = parse_page(page(listed("a", "2026-11-30T22:00:00.125+01:00"))).entries
    assert entry == Entry("a", 7, datetime(2026, 11, 30, 21, 0, 0, 125000, UTC))


@pytest.mark.parametrize(
    ("rest", "token"),
    [("<NextContinuationToken>t/1</NextContinuationToken>", "t/1"), ("", "b")],
    ids=["a token", "none, so the last key"],
)
def test_what_comes_next_is_asked_for_with(rest: str, token: str) -> None:
    found = parse_page(page(listed("a"), listed("b"), rest=f"<IsTruncated>true</IsTruncated>{rest}"))
    assert (found.truncated, found.token) == (True, token)


@pytest.mark.parametrize("body", [b"<html><body/></html>", page("<Size>1</Size>"), page(listed("a", "soon"))])
def test_what_is_no_listing_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_page(body)


def test_what_is_no_xml_is_refused() -> None:
    with pytest.raises(ParseError):
        parse_page(b"<p>welcome")
