"""Crops that a device resamples: the host copies the voxels that they look at, and goes on.

The definition is that of `affine_crop`, step by step; a device rounds the last bit of a sum its own way.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segviz_trainer.batches.affine_crop import find_points, nearest_of, plain_crop


@dataclass(frozen=True)
class _Points:
    """Of a crop (X, Y, Z) in a box whose planes are laid out flat."""

    corner: Tensor
    """(X·Y,): the lowest of the four neighbours in the plane."""
    weights: Tensor
    """(4, X·Y, 1) float32, of the neighbours."""
    nearest: Tensor
    floor_z: Tensor
    """(Z,); likewise the others along z."""
    weight_z: Tensor
    nearest_z: Tensor

    def on(self, device: torch.device) -> "_Points":
        return _Points(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


@dataclass(frozen=True)
class HostCrop:
    """A crop before its resampling, in memory that a device fetches from by itself."""

    image: Tensor
    """Float32, as large as the points need; without points the crop."""
    label: Tensor
    """uint8, as `image`."""
    points: _Points | None
    factor: float
    """Of the image's values, before `shift` is added."""
    shift: float

    def resample(self, image_out: Tensor, label_out: Tensor) -> None:
        """Into two tensors (X, Y, Z) on one device, in the order of its stream."""
        if self.points is None:
            image_out.copy_(self.image, non_blocking=True)
            label_out.copy_(self.label, non_blocking=True)
        else:
            points = self.points.on(image_out.device)
            image = self.image.to(image_out.device, non_blocking=True)
            image_out.view(-1, image_out.shape[2]).copy_(_interpolated(image, points))
            rows = self.label.to(label_out.device, non_blocking=True).flatten(0, 1)
            classes = rows.index_select(0, points.nearest).index_select(1, points.nearest_z)
            label_out.view(-1, label_out.shape[2]).copy_(classes)
        if self.factor != 1:
            image_out *= self.factor
        if self.shift != 0:
            image_out += self.shift


def host_crop(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    start: Sequence[int],
    affine: NDArray[np.float64] | None,
    size: tuple[int, int, int],
    intensity: tuple[float, float],
    *,
    pinned: bool,
) -> HostCrop:
    """What `affine_crop` looks at; without `affine` the crop. `intensity` is factor and shift."""
    points, low, box = None, start, tuple(size)
    if affine is not None:
        low, box, along = find_points(start, affine, size)
        points = _points(*along, width=box[1], pinned=pinned)
    values = torch.empty(box, dtype=torch.float32, pin_memory=pinned)
    classes = torch.empty(box, dtype=torch.uint8, pin_memory=pinned)
    plain_crop(image, low, values.numpy())
    plain_crop(label, low, classes.numpy())
    return HostCrop(values, classes, points, *intensity)


def _points(
    along_x: NDArray[np.float64],
    along_y: NDArray[np.float64],
    along_z: NDArray[np.float64],
    *,
    width: int,
    pinned: bool,
) -> _Points:
    def tensor(array: NDArray[np.generic]) -> Tensor:
        given = torch.from_numpy(array)
        return given.pin_memory() if pinned else given

    floor_x, floor_y, floor_z = (np.floor(along).astype(np.int32) for along in (along_x, along_y, along_z))
    x, y = (along_x - floor_x).astype(np.float32), (along_y - floor_y).astype(np.float32)
    weights = np.stack([(1 - x) * (1 - y), (1 - x) * y, x * (1 - y), x * y])[..., None]
    return _Points(
        corner=tensor(floor_x * np.int32(width) + floor_y),
        weights=tensor(weights),
        nearest=tensor(nearest_of(along_x) * width + nearest_of(along_y)),
        floor_z=tensor(floor_z),
        weight_z=tensor((along_z - floor_z).astype(np.float32)),
        nearest_z=tensor(nearest_of(along_z)),
    )


def _interpolated(image: Tensor, points: _Points) -> Tensor:
    """(X·Y, Z): along z, then in the plane."""
    rows = image.flatten(0, 1)
    columns = rows.index_select(1, points.floor_z) * (1 - points.weight_z)
    columns += rows.index_select(1, points.floor_z + 1) * points.weight_z
    width = image.shape[1]
    first, *others = (0, 1, width, width + 1)
    total = columns.index_select(0, points.corner + first) * points.weights[0]
    for step, weight in zip(others, points.weights[1:], strict=True):
        total += columns.index_select(0, points.corner + step) * weight
    return total


@contextmanager
def beside_its_steps(device: torch.device) -> Iterator[Callable[[Tensor], Tensor]]:
    """What is computed within runs beside a GPU's steps, and is there when its thread has left.

    Within, hand out with the function that is given whatever the steps will use.
    """
    if device.type != "cuda":
        yield lambda tensor: tensor
        return
    steps = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def ready(tensor: Tensor) -> Tensor:
        # Else its memory may be given to another batch while a step still reads it.
        tensor.record_stream(steps)
        return tensor

    with torch.cuda.stream(stream):
        yield ready
    stream.synchronize()  # this thread waits, and not the one that trains
