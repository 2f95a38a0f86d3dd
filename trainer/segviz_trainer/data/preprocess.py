"""The part of the pipeline without chance: a case's files to one image and one label map in RAS."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.intensity.array import NormalizeIntensity, ScaleIntensityRange
from monai.transforms.spatial.array import Orientation, Resize, Spacing
from msgspec.structs import replace
from numpy.typing import NDArray

from segviz_exchange.contract.choices import Intensity
from segviz_exchange.contract.spec import IntensityScaling, Preprocessing
from segviz_trainer.data.grids import Grid
from segviz_trainer.data.headers import LOST_AFFINE, Header, check_header, read_volume
from segviz_trainer.data.labels import is_organ, map_label
from segviz_trainer.data.layouts import Case
from segviz_trainer.data.opened import opened
from segviz_trainer.process.errors import BadCase

_RAS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
# Of a voxel: more than rounding in a header, less than a misregistration anyone could see.
_MAX_LABEL_SHIFT = 0.1
_MIB = 2**20

_RESIZERS: dict[str, Callable[[tuple[int, int, int]], Resize]] = {
    "bilinear": lambda size: Resize(size, mode="trilinear", align_corners=False),
    "nearest": lambda size: Resize(size, mode="nearest-exact"),
}


@dataclass(frozen=True)
class PreparedImage:
    """An image as the network sees it."""

    voxels: NDArray[np.float32]
    """(1, X, Y, Z), axes along R, A, S."""
    grid: Grid
    native: Grid
    """The grid of the stored file, for the way back."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PreparedVolumes:
    """A case as the network sees it."""

    image: PreparedImage
    label: NDArray[np.uint8]
    """(1, X, Y, Z): 0 background, 1 + i the i-th of the organs, IGNORED what is to be ignored."""
    native_label: NDArray[np.uint8]
    """The same classes on the stored file's grid, which is where a prediction is scored."""


def prepare_image(path: Path, preprocessing: Preprocessing, max_mebibytes: int) -> PreparedImage:
    """Read, orient, resample and scale one image.

    Raises:
        BadCase: the file is unusable; see `headers`, or its voxels are not finite or all the same.
    """
    header = check_header(path, max_mebibytes)
    _check_resampled_size(path, header, preprocessing, max_mebibytes)
    stored = read_image(path, header)
    placed = _to_ras(stored, header, preprocessing, mode="bilinear")
    voxels = _scaled(path, placed, preprocessing.intensity)
    return PreparedImage(
        voxels,
        Grid.of(voxels.shape[1:], placed.affine.numpy()),
        Grid.of(header.shape, header.affine),
        _warnings(header, stored, preprocessing.intensity),
    )


def read_image(path: Path, header: Header) -> NDArray[np.float32]:
    """An image's values as stored. Raises BadCase where they are not finite or all the same."""
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(read_volume(path, header), dtype=np.float32)
    if not np.isfinite(stored).all():
        count = int((~np.isfinite(stored)).sum())
        raise BadCase(path, f"has {count} NaN or infinite voxels", "Replace them (in a CT, by -1024)")
    if stored.min() == stored.max():
        raise BadCase(path, f"is constant: every voxel is {stored.flat[0]:g}", "Export it again")
    return stored


def doubts(stored: NDArray[np.float32]) -> tuple[str, ...]:
    """What is odd about the values of an image, if it is a CT."""
    return ("no value below 0: not a CT in Hounsfield units?",) if stored.min() >= 0 else ()


def _warnings(header: Header, stored: NDArray[np.float32], intensity: IntensityScaling) -> tuple[str, ...]:
    if intensity.method is Intensity.WINDOW:  # for CTs
        return header.warnings + doubts(stored)
    # MR crops are 1 mm on purpose.
    return tuple(warning for warning in header.warnings if warning != LOST_AFFINE)


def preprocess(
    case: Case, preprocessing: Preprocessing, organs: Sequence[str], max_mebibytes: int
) -> PreparedVolumes:
    """Read, check and prepare a case; `organs` fix the label's classes by their order.

    Raises:
        BadCase: image or label is unusable, or they do not belong together.
    """
    with opened(case, max_mebibytes) as files:
        volumes = _preprocess(files.case, preprocessing, organs, max_mebibytes)
    image = dataclasses.replace(volumes.image, warnings=files.warnings + volumes.image.warnings)
    return dataclasses.replace(volumes, image=image)


def _preprocess(
    case: Case, preprocessing: Preprocessing, organs: Sequence[str], max_mebibytes: int
) -> PreparedVolumes:
    image_header = check_header(case.image, max_mebibytes)
    label_header = check_header(case.label, max_mebibytes)
    check_same_grid(case, image_header, label_header)
    image = prepare_image(case.image, preprocessing, max_mebibytes)
    mapped = map_label(case, read_volume(case.label, label_header), organs)
    # On the image's grid: the label's may differ by rounding, and then by a voxel after resampling.
    label = _to_ras(mapped.astype(np.float32), image_header, preprocessing, mode="nearest")
    resampled = label.numpy().astype(np.uint8)
    assert resampled.shape == image.voxels.shape  # same grid in, same grid out
    if not is_organ(resampled).any():
        raise BadCase(
            case.label,
            f"has no organ voxel left {_grid_of(preprocessing)}",
            "Leave the case out, or choose a finer spacing",
        )
    return PreparedVolumes(image, resampled, mapped)


def preprocessing_of(case: Case, preprocessing: Preprocessing) -> Preprocessing:
    """The federation's, with the data set's own window where it has one and the federation allows it."""
    intensity = preprocessing.intensity
    if case.window is None or not intensity.site_windows:
        return preprocessing
    return replace(preprocessing, intensity=replace(intensity, window=case.window))


def _grid_of(preprocessing: Preprocessing) -> str:
    resized = f"resized to {preprocessing.resize} voxels" if preprocessing.resize else ""
    spaced = f"at a spacing of {preprocessing.target_spacing} mm" if preprocessing.target_spacing else ""
    return " and ".join(part for part in (resized, spaced) if part)


def _to_ras(
    stored: NDArray[np.float32], header: Header, preprocessing: Preprocessing, mode: str
) -> MetaTensor:
    placed: torch.Tensor = MetaTensor(torch.from_numpy(stored)[None], affine=torch.from_numpy(header.affine))
    placed = Orientation("RAS", labels=_RAS_LABELS)(placed)
    if preprocessing.resize is not None:
        # Centred, so that the affine that MONAI derives fits where the voxels are.
        placed = _RESIZERS[mode](preprocessing.resize)(placed)
    if preprocessing.target_spacing is not None:
        placed = Spacing(preprocessing.target_spacing, mode=mode, padding_mode="border", dtype=np.float32)(
            placed
        )
    assert isinstance(placed, MetaTensor)  # MONAI keeps the type it was given
    return placed


def _scaled(path: Path, placed: MetaTensor, intensity: IntensityScaling) -> NDArray[np.float32]:
    if intensity.method is Intensity.WINDOW:
        assert intensity.window is not None  # the schema requires it with Window
        low, high = intensity.window
        scaled = ScaleIntensityRange(low, high, b_min=0.0, b_max=1.0, clip=True)(placed)
    else:
        scaled = NormalizeIntensity()(placed)
    voxels = np.ascontiguousarray(scaled, dtype=np.float32)
    if voxels.min() == voxels.max():
        raise BadCase(
            path,
            f"is constant after {intensity.method} scaling (window {intensity.window})",
            "Check that its unit fits spec.preprocessing.intensity",
        )
    return voxels


def _check_resampled_size(
    path: Path, header: Header, preprocessing: Preprocessing, max_mebibytes: int
) -> None:
    if preprocessing.resize and (size := math.prod(preprocessing.resize) * 4 / _MIB) > max_mebibytes:
        raise BadCase(
            path,
            f"would take {size:,.0f} MiB resized to {preprocessing.resize} voxels; "
            f"spec.maxCaseMebibytes is {max_mebibytes}",
            "Raise that, or ask for a smaller preprocessing.resize",
        )
    if preprocessing.target_spacing is None:
        return
    # The finest target spacing stands for each axis: which array axis becomes R, A or S is not asked here.
    extents = [length * spacing for length, spacing in zip(header.shape, header.spacing, strict=True)]
    mebibytes = math.prod(extents) / math.prod(preprocessing.target_spacing) * 4 / _MIB
    if mebibytes > max_mebibytes or max(extents) / min(preprocessing.target_spacing) > 2**15:
        raise BadCase(
            path,
            f"would take {mebibytes:,.0f} MiB at a spacing of {preprocessing.target_spacing} mm "
            f"(it spans {' x '.join(f'{extent:,.0f}' for extent in extents)} mm); "
            f"spec.maxCaseMebibytes is {max_mebibytes}",
            "Check the spacing in its header, or crop it",
        )


def check_same_grid(case: Case, image: Header, label: Header) -> None:
    if image.shape != label.shape:
        raise BadCase(
            case.label,
            f"has the shape {label.shape}, but its image {case.image.name} has {image.shape}",
            "Resample the label to the image's grid",
        )
    corners = np.array(np.meshgrid(*((0, length) for length in image.shape))).reshape(3, -1)
    shift = np.abs((image.affine - label.affine)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])).max()
    if shift > _MAX_LABEL_SHIFT * min(image.spacing):
        raise BadCase(
            case.label,
            f"lies up to {shift:.2f} mm away from its image {case.image.name}: their affines differ",
            "Resample the label to the image's grid",
        )
