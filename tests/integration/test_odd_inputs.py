"""Every file of the table `odd_inputs.md` is accepted or refused as it says, in bounded memory."""

import gzip
import json
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

TABLE = Path(__file__).with_name("odd_inputs.md")
WORKER = Path(__file__).with_name("odd_worker.py")
SHARED = Path(__file__).parents[2].parent / "shared/data"
MAX_GROWTH_MEBIBYTES = 1024
SHAPE = (16, 15, 4)
# Sound enough for a partner on the same grid; all others meet the good file of SHAPE.
OWN_GRID = ("tiny-7x5x3.nii.gz", "gigametres.nii.gz")
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@dataclass(frozen=True)
class Row:
    file: str
    used_as: str
    verdict: str
    fragment: str

    @property
    def id(self) -> str:
        return f"{self.file} as {self.used_as}"


def read_table() -> list[Row]:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    return [Row(*[cell.strip() for cell in line.split("|")[1:5]]) for line in lines]


ROWS = read_table()


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(-200, 300, SHAPE, dtype=np.int16)


def label() -> np.ndarray:
    ids = np.zeros(SHAPE, np.uint8)
    ids[4:9, 4:9, 1:3] = 1
    return ids


def raw(array: np.ndarray, affine: np.ndarray = AFFINE) -> bytes:
    return nib.Nifti1Image(array, affine).to_bytes()


def declaring(shape: tuple[int, ...], code: int = 4) -> bytes:
    """A sound header of that shape, 352 bytes, int16 unless said otherwise."""
    header = bytearray(raw(image())[:352])
    struct.pack_into("<4h", header, 40, 3, *shape)
    struct.pack_into("<h", header, 70, code)
    return bytes(header)


def inflating(start: bytes, mebibytes: int) -> bytes:
    """`start` and then zeros, packed: about 1 kB for each MiB."""
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    return b"".join(
        [packer.compress(start), *(packer.compress(zeros) for _ in range(mebibytes)), packer.flush()]
    )


def flipped(packed: bytes) -> bytes:
    return packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]


def with_nan() -> np.ndarray:
    voxels = image().astype(np.float32)
    voxels[3, 3, 3] = np.nan
    return voxels


def write_made(folder: Path) -> None:
    """Write every file of the table that does not come from the shared folder."""
    good = gzip.compress(raw(image()))
    shifted = AFFINE.copy()
    shifted[0, 0] = -2.0
    made = {
        "good.nii.gz": good,
        "cut-in-half.nii.gz": good[: len(good) // 2],
        "cut-in-half.nii": raw(image())[: len(raw(image())) // 2],
        "wrong-checksum.nii.gz": flipped(good),
        "terabytes.nii": declaring((32767, 32767, 32767), code=16),
        "hollow.nii.gz": inflating(declaring((512, 512, 200)), 2),
        "bomb.nii.gz": inflating(declaring(SHAPE), 1024),
        "honest-bomb.nii.gz": inflating(declaring((1024, 1024, 1024), code=2), 1024),
        "gigametres.nii.gz": gzip.compress(raw(image(), np.diag([900.0, 900.0, 900.0, 1.0]))),
        "fifth-axis-of-one.nii.gz": gzip.compress(raw(image()[..., None, None])),
        "nan-voxels.nii.gz": gzip.compress(raw(with_nan())),
        "constant.nii.gz": gzip.compress(raw(image() * 0)),
        "other-shape.nii.gz": gzip.compress(raw(label()[:-1])),
        "other-place.nii.gz": gzip.compress(raw(label(), shifted)),
        "unknown-id.nii.gz": gzip.compress(raw(label() * 7)),
        "fractions.nii.gz": gzip.compress(raw(label() * np.float32(0.5))),
        "empty.nii.gz": gzip.compress(raw(label() * 0)),
        "background-only.nii.gz": gzip.compress(raw(label() * 9)),
        "label.nii.gz": gzip.compress(raw(label())),
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)


def beside(file: Path, row: Row, folder: Path) -> tuple[Path, Path]:
    """Image and label of the case in which `file` plays its role, the other one good."""
    if file.name not in OWN_GRID:
        return (file, folder / "label.nii.gz") if row.used_as == "image" else (folder / "good.nii.gz", file)
    stored = nib.load(file)
    other = np.zeros(stored.shape, np.uint8)
    other[1:3, 1:3, 1:3] = 1
    path = folder / f"beside-{row.used_as}-{file.name}"
    nib.save(nib.Nifti1Image(other, stored.affine), path)
    return (file, path) if row.used_as == "image" else (path, file)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """By row id; with the idle process's memory under `idle`."""
    folder = tmp_path_factory.mktemp("odd")
    write_made(folder)
    listed = []
    for row in ROWS:
        file = SHARED / row.file if "/" in row.file else folder / row.file
        if "/" not in row.file or file.exists():
            of_image, of_label = beside(file, row, folder)
            listed.append({"id": row.id, "image": str(of_image), "label": str(of_label)})
    listing = folder / "cases.json"
    listing.write_text(json.dumps(listed), encoding="utf-8")
    worker = subprocess.run(
        [sys.executable, str(WORKER), str(listing)], capture_output=True, encoding="utf-8", timeout=240
    )
    idle, *lines = [json.loads(line) for line in worker.stdout.splitlines()]
    assert worker.returncode == 0, f"after {len(lines)} of {len(listed)} cases:\n{worker.stderr[-2000:]}"
    return {"idle": idle} | {row["id"]: line for row, line in zip(listed, lines, strict=True)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_table_says_what_happens_to(row: Row, outcomes: dict[str, dict[str, object]]) -> None:
    if row.id not in outcomes:
        pytest.skip(f"{SHARED / row.file} is missing")
    outcome = outcomes[row.id]
    if row.verdict == "accepted":
        assert (outcome["accepted"], outcome["refused"]) == ([row.id], [])
        return
    assert row.fragment
    assert outcome["accepted"] == []
    (line,) = outcome["refused"]
    assert row.fragment in line
    assert Path(row.file).name in line.partition(": ")[0]
    assert "\n" not in line


def test_no_file_takes_a_gibibyte(outcomes: dict[str, dict[str, object]]) -> None:
    idle = outcomes["idle"]["idle_mebibytes"]
    grown = {name: o["peak_mebibytes"] - idle for name, o in outcomes.items() if name != "idle"}
    assert {name: mib for name, mib in grown.items() if mib >= MAX_GROWTH_MEBIBYTES} == {}


def test_the_table_names_every_shared_file() -> None:
    folder = SHARED / "odd-inputs"
    if not folder.exists():
        pytest.skip(f"{folder} is missing")
    named = {Path(row.file).name for row in ROWS if "/" in row.file}
    assert named == {path.name for path in folder.iterdir()}
