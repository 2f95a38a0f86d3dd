"""Sliding windows beside MONAI's, and what is left out of them."""

import pytest
import torch
from monai.inferers.inferer import SlidingWindowInferer
from torch import Tensor

from segviz_trainer.inference.windows import SlidingWindows

PATCH = (8, 6, 4)


def network(windows: Tensor) -> Tensor:
    """Two channels that depend on where in its window a voxel lies, so that weights matter."""
    ramp = torch.linspace(0, 1, windows.shape[-3]).view(1, 1, -1, 1, 1)
    return torch.cat([windows + ramp, windows * ramp], dim=1)


def image(shape: tuple[int, int, int], air: int = 0) -> Tensor:
    values = 1 + torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    if air:
        values[:, :, -air:] = 0
    return values


@pytest.mark.parametrize("shape", [(20, 17, 9), (8, 6, 4), (5, 17, 3), (9, 7, 5)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("batch", [1, 3])
def test_without_air_the_result_is_monais(shape: tuple[int, int, int], overlap: float, batch: int) -> None:
    windows = SlidingWindows(PATCH, overlap, batch)
    theirs = SlidingWindowInferer(PATCH, sw_batch_size=1, overlap=overlap, mode="gaussian")
    expected = theirs(image(shape), network)
    torch.testing.assert_close(windows.everywhere(image(shape), network), expected)
    if min(a - b for a, b in zip(shape, PATCH, strict=True)) >= 0:
        torch.testing.assert_close(windows.body(image(shape), network, (0.0, 0.0)), expected)


def test_windows_of_air_alone_are_not_looked_at_and_are_background() -> None:
    scan, seen = image((32, 6, 4), air=20), []

    def watched(windows: Tensor) -> Tensor:
        seen.append(float(windows.max()))
        return network(windows)

    found = SlidingWindows(PATCH, 0.5).body(scan, watched, (0.25, 0.75))
    assert len(seen) == 3  # of 7: they start at 0, 4 and 8
    assert min(seen) > 0
    assert torch.equal(found[0, :, 16:, 0, 0], torch.tensor([[0.25], [0.75]]).expand(2, 16))
    whole = SlidingWindows(PATCH, 0.5).everywhere(scan, network)
    torch.testing.assert_close(found[:, :, :12], whole[:, :, :12])


def test_air_in_a_window_with_a_body_is_looked_at() -> None:
    scan = image((8, 6, 4), air=5)
    found = SlidingWindows(PATCH, 0.5).body(scan, network, (9.0, 9.0))
    torch.testing.assert_close(found, network(scan))


def test_progress_ends_with_all_windows() -> None:
    told: list[tuple[int, int]] = []
    SlidingWindows(PATCH, 0.5, batch=3).body(
        image((20, 6, 4)), network, (0.0, 0.0), lambda done, windows: told.append((done, windows))
    )
    assert told == [(3, 4), (4, 4)]
