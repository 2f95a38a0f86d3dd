"""A made-up federation: abdominal CTs in which each site annotates another organ, on another scanner.

For demos and tests without patients. Every byte depends on the seed, the number and size of the cases alone.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, ornt_transform
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from segviz_exchange.contract.choices import Layout
from segviz_trainer.phantom.anatomy import Triple, Volume, draw_person, mask
from segviz_trainer.process.chance import build_generator

Shape = tuple[int, int, int]

_AIR_HU = -1000.0
_PLAIN_HU = {
    "fat": -100,
    "muscle": 35,
    "lungs": -800,
    "stomach": 5,
    "liver": 60,
    "spleen": 50,
    "pancreas": 40,
    "aorta": 40,
    "kidneys": 30,
    "tumour": 20,
    "spine": 250,
}
_PORTAL_HU = {
    "liver": 50,
    "spleen": 70,
    "pancreas": 45,
    "aorta": 110,
    "kidneys": 130,
    "tumour": 40,
    "muscle": 15,
}
_ARTERIAL_HU = {"liver": 20, "spleen": 90, "pancreas": 75, "aorta": 240, "kidneys": 150, "tumour": 60}
_ORGAN_SD_HU = 6.0


@dataclass(frozen=True)
class Scanner:
    """How a site's images differ from another's."""

    field_mm: Triple
    orientation: str
    noise_hu: float
    blur_mm: float
    offset_hu: float
    gain: float
    contrast_hu: Mapping[str, int]


@dataclass(frozen=True)
class PhantomSet:
    """One data set of the phantom federation."""

    name: str
    layout: Layout
    labels: Mapping[str, tuple[int, ...]]
    """Label ids of each annotated organ, as in a SegVizSite."""
    scanner: Scanner


PHANTOM_SETS = (
    PhantomSet(
        "liver", Layout.MSD, {"liver": (1,)}, Scanner((344, 336, 224), "RAS", 12, 3.0, 0, 1.0, _PORTAL_HU)
    ),
    PhantomSet(
        "spleen", Layout.MSD, {"spleen": (1,)}, Scanner((330, 330, 216), "LPS", 28, 1.0, 25, 1.1, _PORTAL_HU)
    ),
    PhantomSet(
        "pancreas",
        Layout.MSD,
        {"pancreas": (1,)},
        Scanner((336, 336, 220), "LAS", 8, 4.0, -20, 0.95, _PORTAL_HU),
    ),
    PhantomSet(
        # KiTS19's own axes: slices first. Kidney 1, tumour 2.
        "kidneys",
        Layout.KITS19,
        {"kidneys": (1, 2)},
        Scanner((340, 340, 220), "IPL", 18, 2.0, 10, 1.05, _ARTERIAL_HU),
    ),
    PhantomSet(
        "external",
        Layout.BTCV,
        {"spleen": (1,), "kidneys": (2, 3), "liver": (6,), "pancreas": (11,)},
        Scanner((338, 334, 222), "LAS", 16, 2.5, -10, 1.0, _PORTAL_HU),
    ),
)
"""Four training sites, one organ each, and one external set with all of them."""


def generate(
    folder: Path,
    seed: int,
    cases: int = 12,
    external_cases: int = 6,
    size: Shape = (48, 48, 32),
    report: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> None:
    """Write each of `PHANTOM_SETS` to `folder/<name>`, in its layout, `cases` to a training set.

    The field of view is fixed, so `size` (voxels along R, A, S) sets the spacing: 48x48x32 is about 7 mm.
    `report` is told cases written, cases in all and the data set's name.
    """
    counts = {s.name: external_cases if s.layout is Layout.BTCV else cases for s in PHANTOM_SETS}
    done = 0
    for phantom_set in PHANTOM_SETS:
        target = folder / phantom_set.name
        for index in range(counts[phantom_set.name]):
            chance = build_generator("phantom", seed, phantom_set.name, index)
            image, label = _scan(phantom_set, size, chance)
            image_path, label_path = _paths(phantom_set, index)
            _write(target / image_path, image)
            _write(target / label_path, label)
            done += 1
            report(done, sum(counts.values()), phantom_set.name)
        if phantom_set.layout is Layout.MSD:
            _write_listing(target, phantom_set, counts[phantom_set.name])


def _scan(
    phantom_set: PhantomSet, size: Shape, chance: np.random.Generator
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """A person's image and label, stored along the scanner's axes."""
    scanner = phantom_set.scanner
    x, y, z = (field / length for field, length in zip(scanner.field_mm, size, strict=True))
    affine = np.diag([x, y, z, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size) - 1) / 2) + chance.normal(0, 4, size=3)
    indices = np.indices(size, dtype=np.float32)
    points = indices * np.reshape([x, y, z], (3, 1, 1, 1)) + affine[:3, 3].reshape(3, 1, 1, 1)
    points = points.astype(np.float32)
    shapes = draw_person(points, (x, y, z), chance)
    image = _image(shapes, scanner, (x, y, z), chance)
    label = _label(shapes, phantom_set, right=points[0] > 0)
    return _stored(image, affine, scanner.orientation), _stored(label, affine, scanner.orientation)


def _stored(array: NDArray[np.generic], affine: NDArray[np.float64], orientation: str) -> nib.Nifti1Image:
    """`array` along R, A, S, as a file whose axes point to `orientation`."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))  # type: ignore[no-untyped-call]
    image: nib.Nifti1Image = nib.Nifti1Image(array, affine).as_reoriented(turn)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    return image


def _image(
    shapes: Mapping[str, Volume], scanner: Scanner, spacing: Triple, chance: np.random.Generator
) -> NDArray[np.int16]:
    hu = np.full(next(iter(shapes.values())).shape, _AIR_HU)
    for name, soft in shapes.items():
        contrast = scanner.contrast_hu.get(name, 0) * chance.normal(1, 0.1)
        hu += soft * (_PLAIN_HU[name] + contrast + chance.normal(0, _ORGAN_SD_HU) - hu)
    blurred = gaussian_filter(hu, [scanner.blur_mm / length for length in spacing])
    noisy = blurred + chance.normal(0, scanner.noise_hu, size=hu.shape)
    stored = np.clip(noisy * scanner.gain + scanner.offset_hu, -1024, 3071).round()
    return np.asarray(stored, dtype=np.int16)


def _label(
    shapes: Mapping[str, Volume], phantom_set: PhantomSet, right: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    label = np.zeros(right.shape, np.uint8)
    tumour = mask(shapes, "tumour")
    for organ, ids in phantom_set.labels.items():
        organ_mask = mask(shapes, organ)
        if organ == "kidneys":
            # KiTS19 tells kidney and tumour apart, BTCV right and left.
            second = tumour if phantom_set.layout is Layout.KITS19 else ~right
            organ_mask |= tumour
            label[organ_mask & second] = ids[1]
            organ_mask &= ~second
        label[organ_mask] = ids[0]
    return label


def _paths(phantom_set: PhantomSet, index: int) -> tuple[str, str]:
    match phantom_set.layout:
        case Layout.KITS19:
            return f"case_{index:05d}/imaging.nii.gz", f"case_{index:05d}/segmentation.nii.gz"
        case Layout.BTCV:
            return f"img/img{index + 1:04d}.nii.gz", f"label/label{index + 1:04d}.nii.gz"
        case _:
            name = f"{phantom_set.name}_{index:03d}.nii.gz"
            return f"imagesTr/{name}", f"labelsTr/{name}"


def _write_listing(target: Path, phantom_set: PhantomSet, count: int) -> None:
    pairs = [_paths(phantom_set, index) for index in range(count)]
    labels = {"0": "background"} | {str(i): organ for organ, ids in phantom_set.labels.items() for i in ids}
    listing = {
        "name": f"Phantom {phantom_set.name}",
        "description": "Made up by `segviz data phantom`; no patient is behind it",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": labels,
        "numTraining": count,
        "numTest": 0,
        "training": [{"image": f"./{image}", "label": f"./{label}"} for image, label in pairs],
        "test": [],
    }
    (target / "dataset.json").write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")


def _write(path: Path, image: nib.Nifti1Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No time stamp in gzip's header: the same seed gives the same bytes.
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
