"""A malformed file is described in words, and none of its values is quoted."""

from typing import Annotated, Any

import msgspec
import pytest

from segviz_exchange.process.malformed import malformation

CASES: dict[bytes, str] = {
    b"": "it is empty or cut short",
    b'{"count": 1': "it is empty or cut short",
    b"hello": "it is not JSON",
    b"[]": "the whole must be an object, not a list",
    b"{}": "the field count is missing",
    b'{"count": "1"}': "the field count must be a whole number, not text",
    b'{"count": -1}': "the field count has a value that is not allowed",
    b'{"count": 1, "cuont": 2}': "the field cuont is unknown",
    b'{"count": 1, "inner": {}}': "the field inner.name is missing",
    b'{"count": 1, "inner": {"name": ""}}': "the field inner.name is empty",
    b'{"count": 1, "inner": "x"}': "the field inner must be an object or null, not text",
}


class Inner(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1)]


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=0)]
    inner: Inner | None = None


@pytest.mark.parametrize(("data", "said"), CASES.items())
def test_it_says_what_is_wrong_with_which_field(data: bytes, said: str) -> None:
    assert said_of(data) == said


def test_text_that_is_not_utf8_is_not_json() -> None:
    assert said_of(b'{"count": 1, "inner": {"name": "\xff"}}') == "it is not JSON"


def said_of(data: bytes) -> Any:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)) as raised:
        msgspec.json.decode(data, type=Outer)
    assert isinstance(raised.value, (msgspec.DecodeError, UnicodeDecodeError))
    return malformation(raised.value)
