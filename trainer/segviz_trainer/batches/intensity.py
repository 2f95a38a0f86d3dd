"""How an image's values are varied at random, as in nnU-Net (Isensee et al., 2021, supplement).

Each changes an image (X, Y, Z) in place, by one number that `augment.py` draws.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

Image = NDArray[np.float32]

_CUT_AT = 3.0
"""Where a Gaussian is cut off, in units of its width."""
_SMALL = 1e-7


def add_noise(image: Image, share: float, chance: np.random.Generator) -> None:
    """Gaussian noise, its width a share of the image's own: nnU-Net's images have a width of 1."""
    # torch's numbers, by a seed of the case's own generator: numpy's take three times as long.
    generator = torch.Generator().manual_seed(int(chance.integers(2**63)))
    values = torch.from_numpy(image)
    width = share * float(image.std())
    values.add_(torch.randn(image.shape, generator=generator).mul_(width))


def blur(image: Image, width: float) -> None:
    """A Gaussian filter; `width` in voxels."""
    gaussian_filter(image, width, output=image, mode="nearest", truncate=_CUT_AT)


def brighten(image: Image, factor: float) -> None:
    image *= np.float32(factor)


def change_contrast(image: Image, factor: float) -> None:
    """About the mean, and no farther than the image's own values reach."""
    mean, low, high = image.mean(), image.min(), image.max()
    image -= mean
    image *= np.float32(factor)
    image += mean
    np.clip(image, low, high, out=image)


def lower_resolution(image: Image, factor: float) -> None:
    """As if it had been taken with voxels that are larger by 1/`factor`: nearest down, linear up again."""
    coarse = [max(1, round(length * factor)) for length in image.shape]
    taken = interpolate(torch.from_numpy(image)[None, None], size=coarse, mode="nearest-exact")
    fine = interpolate(taken, size=list(image.shape), mode="trilinear", align_corners=False)
    image[...] = fine[0, 0].numpy()


def change_gamma(image: Image, exponent: float) -> None:
    """The power of the values as shares of their range; mean and width stay what they were."""
    values = torch.from_numpy(image)  # vectorised; numpy's power takes several times as long
    width, mean = _width_and_mean(image)
    low, high = torch.aminmax(values)
    values.sub_(low).mul_(1 / (high - low + _SMALL)).pow_(exponent)
    new_width, new_mean = _width_and_mean(image)
    share = width / max(new_width, _SMALL)
    values.mul_(share).add_(mean - new_mean * share)


def change_gamma_inverted(image: Image, exponent: float) -> None:
    """The same of the image's negative: what is bright takes the place of what is dark."""
    np.negative(image, out=image)
    change_gamma(image, exponent)
    np.negative(image, out=image)


def _width_and_mean(image: Image) -> tuple[float, float]:
    """numpy's: torch's `std_mean` takes eight times as long, two thirds of a change of gamma."""
    return float(image.std()), float(image.mean())
