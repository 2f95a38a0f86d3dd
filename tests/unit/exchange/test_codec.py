"""Our codec against the reference implementation, and against files that mean harm."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segviz_exchange.contract.codec import (
    CHUNK_ELEMENTS,
    MAX_HEADER_BYTES,
    NUMPY_TYPES,
    InvalidTensors,
    TensorInfo,
    open_tensors,
    save,
    write_tensors,
)

arrays = st.sampled_from(list(NUMPY_TYPES.values())).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda name: name != "__metadata__"
)
tensors = st.dictionaries(names, arrays, max_size=6)
metadata = st.none() | st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"])), max_size=3)
# One folder for all examples: each overwrites what it reads.
examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def bits(arrays: dict[str, Any]) -> dict[str, Any]:
    """Comparable, with NaN and the sign of zero."""
    return {name: (value.dtype.str, value.shape, value.tobytes()) for name, value in arrays.items()}


@examples
@given(tensors, metadata)
def test_the_reference_reads_what_we_write(
    tmp_path: Path, values: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    digest = save(tmp_path / "file", values, metadata)
    content = (tmp_path / "file").read_bytes()
    assert bits(safetensors.numpy.load(content)) == bits(values)
    assert digest == hashlib.sha256(content).hexdigest()


@examples
@given(tensors)
def test_we_read_what_the_reference_writes(tmp_path: Path, values: dict[str, Any]) -> None:
    (tmp_path / "file").write_bytes(safetensors.numpy.save(values, {"made": "elsewhere"}))
    file = open_tensors(tmp_path / "file")
    assert bits(file.read_all()) == bits(values)
    assert file.metadata == {"made": "elsewhere"}


@examples
@given(tensors, metadata)
def test_the_same_tensors_give_the_same_bytes(
    tmp_path: Path, values: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    backwards = dict(reversed(values.items()))
    backwards_metadata = None if metadata is None else dict(reversed(metadata.items()))
    assert save(tmp_path / "one", values, metadata) == save(tmp_path / "two", backwards, backwards_metadata)
    file = open_tensors(tmp_path / "one")
    assert file.metadata == (metadata or {})
    assert list(file.infos) == sorted(values)


def test_a_tensor_longer_than_a_chunk_comes_in_chunks(tmp_path: Path) -> None:
    value = np.arange(2 * CHUNK_ELEMENTS + 5, dtype="<f4")
    save(tmp_path / "file", {"long": value, "a": value[:1]})
    chunks = list(open_tensors(tmp_path / "file").chunks("long"))
    assert [len(chunk) for chunk in chunks] == [CHUNK_ELEMENTS, CHUNK_ELEMENTS, 5]
    assert np.array_equal(np.concatenate(chunks), value)


def test_another_byte_order_is_the_same_tensor(tmp_path: Path) -> None:
    value = np.arange(6, dtype="<f4").reshape(2, 3)
    assert save(tmp_path / "one", {"a": value}) == save(tmp_path / "two", {"a": value.astype(">f4")})


def test_a_view_is_written_as_it_looks(tmp_path: Path) -> None:
    value = np.arange(24, dtype="<i4").reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    save(tmp_path / "file", {"a": value})
    assert np.array_equal(open_tensors(tmp_path / "file").read("a"), value)


@pytest.mark.parametrize("dtype", ["?", "i2", "c8", "U3", "O"])
def test_a_dtype_that_no_model_has_is_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(ValueError, match="'a' has dtype"):
        save(tmp_path / "file", {"a": np.zeros(2, dtype)})


def test_chunks_that_do_not_fill_the_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the chunks hold 4 bytes, the tensors 8"):
        write_tensors(tmp_path / "file", {"a": TensorInfo("F32", (2,))}, [np.zeros(1, "<f4")])


def test_the_header_s_own_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="__metadata__"):
        save(tmp_path / "file", {"__metadata__": np.zeros(1, "<f4")})


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a\x00b", "", "__proto__"])
def test_a_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    save(folder / "file", {name: np.ones(1, "<f4")})
    assert open_tensors(folder / "file").read(name) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def raw(path: Path, header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(encoded) if length is None else length).to_bytes(8, "little") + encoded + data)
    return path


def entry(begin: int, end: int, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HOSTILE: dict[str, tuple[Any, ...]] = {
    "an overlap": ({"a": entry(0, 4), "b": entry(0, 4)}, bytes(8)),
    "a partial overlap": ({"a": entry(0, 4), "b": entry(2, 6)}, bytes(8)),
    "a gap": ({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)),
    "a gap before the first": ({"a": entry(4, 8)}, bytes(8)),
    "bytes after the last": ({"a": entry(0, 4)}, bytes(5)),
    "bytes and no tensor": ({}, bytes(1)),
    "a range before the data": ({"a": entry(-4, 0)}, bytes(4)),
    "a range backwards": ({"a": entry(4, 0)}, bytes(4)),
    "a file that ends early": ({"a": entry(0, 4)}, bytes(3)),
    "a range of another size than its shape": ({"a": entry(0, 8)}, bytes(8)),
    "a giant tensor": ({"a": entry(0, 2**60, [2**58])}, bytes(4)),
    "a product that wraps to 4 bytes": ({"a": entry(0, 4, [2**32, 2**32 + 1, 2**32])}, bytes(4)),
    "a million dimensions": ({"a": entry(0, 4, [2**62] * 500_000)}, bytes(4)),
    "more dimensions than numpy has": ({"a": entry(0, 4, [1] * 65)}, bytes(4)),
    "negative shapes": ({"a": entry(0, 4, [-1, -1])}, bytes(4)),
    "a shape of strings": ({"a": entry(0, 4, ["1"])}, bytes(4)),
    "a shape of fractions": ({"a": entry(0, 4, [0.5])}, bytes(4)),
    "a shape beyond 64 bits": ({"a": entry(0, 4, [10**30])}, bytes(4)),
    "no shape": ({"a": entry(0, 4, None)}, bytes(4)),
    "an unknown dtype": ({"a": entry(0, 4, dtype="F33")}, bytes(4)),
    "a dtype that is no string": ({"a": entry(0, 4, dtype=["F32"])}, bytes(4)),
    "an unknown field": ({"a": {**entry(0, 4), "code": "import os"}}, bytes(4)),
    "a missing field": ({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "metadata that are no strings": ({"__metadata__": {"a": 1}}, b""),
    "metadata that are no map": ({"__metadata__": [1]}, b""),
    "three offsets": ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}}, bytes(4)),
    "no JSON": (b"not JSON at all", b""),
    "JSON of another kind": (b"[1, 2]", b""),
    "a NaN for an offset": (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[NaN,4]}}', bytes(4)),
    "no text": (b'{"\xff\xfe":{}}', b""),
    "no text where text is read": (b'{"a":{"dtype":"\xff","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "a lone surrogate": (b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "a deep nest": (b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", b""),
    "a pickle": (b"\x80\x04\x95", b""),
    "a giant header": (b"{}", b"", 2**63),
    "a header one byte too long": (b"{}", b"", MAX_HEADER_BYTES + 1),
    "a header longer than the file": (b"{}", b"", 1000),
    "a header of no length": (b"", b""),
}


@pytest.mark.parametrize("parts", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused(tmp_path: Path, parts: tuple[Any, ...]) -> None:
    path = raw(tmp_path / "file", *parts)
    with pytest.raises(InvalidTensors, match=r"^file: ") as raised:
        open_tensors(path)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("size", range(10))
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    save(tmp_path / "whole", {"a": np.ones(3, "<f4")})
    (tmp_path / "file").write_bytes((tmp_path / "whole").read_bytes()[:size])
    with pytest.raises(InvalidTensors):
        open_tensors(tmp_path / "file")


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "file", {"a": np.ones(3, "<f4")})
    file = open_tensors(tmp_path / "file")
    with (tmp_path / "file").open("r+b") as shrinking:
        shrinking.truncate((tmp_path / "file").stat().st_size - 1)
    with pytest.raises(InvalidTensors, match="ends inside tensor 'a'"):
        file.read("a")


@examples
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    raw(tmp_path / "file", content)
    try:
        open_tensors(tmp_path / "file").read_all()
    except InvalidTensors:
        return


def test_values_that_are_no_numbers_are_kept_for_others_to_judge(tmp_path: Path) -> None:
    value = np.array([np.nan, np.inf, -np.inf, -0.0], "<f4")
    save(tmp_path / "file", {"a": value})
    assert open_tensors(tmp_path / "file").read("a").tobytes() == value.tobytes()
