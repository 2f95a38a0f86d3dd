"""What a compressed frame says of itself, as JPEG, JPEG-LS or JPEG 2000 (ISO 10918-1, 14495-1, 15444-1).

A decoder believes the frame, a reader of DICOM its headers; where the two differ, a picture comes out that is
neither, or more memory is taken than any header declares.
"""

import struct
from dataclasses import dataclass

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA


@dataclass(frozen=True)
class Codestream:
    rows: int
    columns: int
    samples: int
    bits: int
    """Of each sample."""


def read_codestream(frame: bytes) -> Codestream:
    """Raises ValueError for what begins as none of the three."""
    try:
        if frame.startswith(_JPEG_2000):
            right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
            (samples,) = struct.unpack_from(">H", frame, 40)
            return Codestream(bottom - top, right - left, samples, (frame[42] & 0x7F) + 1)
        if frame.startswith(_JPEG):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, _frame_header(frame) + 4)
            return Codestream(rows, columns, samples, bits)
    except (struct.error, IndexError) as error:
        raise ValueError("a compressed frame is cut short") from error
    raise ValueError("a compressed frame is neither JPEG, JPEG-LS nor JPEG 2000")


def _frame_header(frame: bytes) -> int:
    """Where its marker stands."""
    at = len(_JPEG)
    while True:
        mark, kind, length = struct.unpack_from(">BBH", frame, at)
        if mark != 0xFF or kind == _START_OF_SCAN:
            raise ValueError("a compressed frame has no header with its size")
        if kind in _START_OF_FRAME:
            return at
        # Any number of 0xFF may come before a marker.
        at += 1 if kind == 0xFF else 2 + length
