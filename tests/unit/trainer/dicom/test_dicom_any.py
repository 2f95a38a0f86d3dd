"""Any legal series gives the volume that pydicom and NumPy give, or is refused; never a third thing."""

import random
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from builders.dicom import Plane, write_enhanced, write_single
from segviz_trainer.dicom.series import series_to_nifti

# Built once: a strategy that is made anew for each example costs more than a draw from it.
SEEDS, SIDES, ANGLES = st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(-180, 180)
LENGTHS = st.floats(0.3, 8.0).map(lambda value: round(value, 4))
RESCALES = st.tuples(st.sampled_from([1.0, 0.5, 2.0, 0.0125, -1.0]), st.sampled_from([0.0, -1024.0, 3.5]))


@st.composite
def series(draw: st.DrawFn) -> tuple[bool, list[Plane]]:
    """Whether it is one file, and its slices in the order in which they are stored."""
    chance = np.random.default_rng(draw(SEEDS))
    rows, columns, count = (draw(SIDES) for _ in range(3))
    spacing, gap = (draw(LENGTHS), draw(LENGTHS)), draw(LENGTHS)
    turned = Rotation.from_euler("xyz", [draw(ANGLES) for _ in range(3)], degrees=True)
    across, down, normal = turned.as_matrix().T
    origin = chance.uniform(-300, 300, 3)
    allocated = draw(st.sampled_from([8, 16, 32]))
    stored = draw(st.integers(max(4, allocated - 8), min(allocated, 24)))
    signed = draw(st.booleans())
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1)) if signed else (0, 2**stored)
    varied = draw(st.booleans())
    rescale = draw(RESCALES)
    planes = []
    for number in range(count):
        slope, intercept = draw(RESCALES) if varied else rescale
        planes.append(
            Plane(
                chance.integers(low, high, (rows, columns)),
                (origin + number * gap * normal).round(5).tolist(),
                slope,
                intercept,
                [round(float(each), 8) for each in (*across, *down)],
                spacing,
                (allocated, stored, signed),
            )
        )
    random.Random(draw(st.integers(0, 99))).shuffle(planes)
    return draw(st.booleans()), planes


def independently(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Every voxel's place in RAS (N, 3) and value (N,), frame by frame from the files."""
    places, values = [], []
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        frames = dataset.get("PerFrameFunctionalGroupsSequence") or [None]
        pixels = dataset.pixel_array.reshape(len(frames), dataset.Rows, dataset.Columns)
        for frame, stored in zip(frames, pixels, strict=True):
            at = frame.PlanePositionSequence[0] if frame else dataset
            turn = frame.PlaneOrientationSequence[0] if frame else dataset
            measured = frame.PixelMeasuresSequence[0] if frame else dataset
            meant = frame.PixelValueTransformationSequence[0] if frame else dataset
            j, i = np.mgrid[: dataset.Rows, : dataset.Columns]
            cosines = np.array(turn.ImageOrientationPatient, float)
            between_rows, between_columns = map(float, measured.PixelSpacing)
            place = (
                np.array(at.ImagePositionPatient, float)
                + i[..., None] * between_columns * cosines[:3]
                + j[..., None] * between_rows * cosines[3:]
            )
            places.append((place * [-1, -1, 1]).reshape(-1, 3))
            values.append((stored * float(meant.RescaleSlope) + float(meant.RescaleIntercept)).ravel())
    return np.concatenate(places), np.concatenate(values)


@settings(max_examples=settings().max_examples * 3 // 2)
@given(made=series())
def test_every_voxel_has_the_place_and_value_of_its_headers(made: tuple[bool, list[Plane]]) -> None:
    one_file, planes = made
    with tempfile.TemporaryDirectory() as name:
        folder = (write_enhanced if one_file else write_single)(Path(name, "series"), planes)
        series_to_nifti(folder, Path(name, "volume.nii"), 64)
        image = nib.load(Path(name, "volume.nii"))
        places, values = independently(folder)
        at = nib.affines.apply_affine(np.linalg.inv(image.affine), places)
        voxels = np.rint(at).astype(int)
        assert np.abs(at - voxels).max() < 0.01
        assert len(np.unique(voxels, axis=0)) == np.prod(image.shape)
        assert np.array_equal(np.asarray(image.dataobj)[tuple(voxels.T)], values.astype(np.float32))
