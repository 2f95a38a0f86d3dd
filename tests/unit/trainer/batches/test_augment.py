"""Each transform of a patch against its definition, written out voxel by voxel."""

from collections.abc import Callable
from itertools import product

import msgspec
import numpy as np
import pytest
from scipy.ndimage import affine_transform
from scipy.stats import kstest

from builders.volumes import ORGANS, WINDOWED, write_case
from segviz_exchange.contract.choices import Augmentation, Axis, MemoryFormat, OptimizerState, Precision
from segviz_exchange.contract.training_spec import Mirroring, Rotation, Training, Transforms, Varied
from segviz_trainer.batches import intensity
from segviz_trainer.batches.augment import draw_affine, rotation, usual_degrees, vary
from segviz_trainer.batches.prefetch import Prefetch
from segviz_trainer.batches.sampling import Batch, batch_makers
from segviz_trainer.batches.turned_crop import turned_crop
from segviz_trainer.data.cache import PreparedCase, prepare_case

SHAPE = (7, 6, 5)
PATCH = (16, 16, 8)
ALWAYS = Transforms(
    rotation=Rotation(1.0),
    **{
        name: Varied(1.0)
        for name in ("scaling", "noise", "blur", "brightness", "contrast", "gamma", "inverted_gamma")
    },
    low_resolution=Varied(1.0, (0.5, 0.7)),
    mirroring=Mirroring((Axis.ANTERIOR, Axis.SUPERIOR)),
)
Slow = Callable[[np.ndarray, float], np.ndarray]


def image_of(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.4, 0.3, shape).astype(np.float32)


# --- values ---------------------------------------------------------------------------------------------


def slow_blur(image: np.ndarray, width: float) -> np.ndarray:
    """The sum over neighbours of exp(-d²/2s²), to 3 s along each axis; beyond an edge lies the edge."""
    reach = int(3 * width + 0.5)
    found = np.zeros(image.shape)
    for voxel in np.ndindex(image.shape):
        total = weights = 0.0
        for step in product(range(-reach, reach + 1), repeat=3):
            place = tuple(
                min(max(at + by, 0), length - 1)
                for at, by, length in zip(voxel, step, image.shape, strict=True)
            )
            weight = np.exp(-sum(by * by for by in step) / (2 * width * width))
            total, weights = total + weight * float(image[place]), weights + weight
        found[voxel] = total / weights
    return found


def slow_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    values = image.astype(np.float64)
    mean = values.mean()
    changed = [min(max((value - mean) * factor + mean, values.min()), values.max()) for value in values.flat]
    return np.array(changed).reshape(image.shape)


def slow_gamma(image: np.ndarray, exponent: float) -> np.ndarray:
    values = image.astype(np.float64)
    low, high = values.min(), values.max()
    raised = np.array([((value - low) / (high - low)) ** exponent for value in values.flat])
    raised = (raised - raised.mean()) / raised.std() * values.std() + values.mean()
    return raised.reshape(image.shape)


def slow_low_resolution(image: np.ndarray, factor: float) -> np.ndarray:
    """A coarse voxel has the value at its middle; a fine one lies between the coarse middles."""
    coarse = tuple(max(1, round(length * factor)) for length in image.shape)
    taken = np.zeros(coarse)
    for voxel in np.ndindex(coarse):
        middle = [(at + 0.5) * fine / few for at, fine, few in zip(voxel, image.shape, coarse, strict=True)]
        taken[voxel] = image[tuple(int(np.floor(at)) for at in middle)]
    found = np.zeros(image.shape)
    for voxel in np.ndindex(image.shape):
        places = []
        for at, fine, few in zip(voxel, image.shape, coarse, strict=True):
            exact = max((at + 0.5) * few / fine - 0.5, 0.0)
            first = int(exact)
            places.append([(first, 1 - (exact - first)), (min(first + 1, few - 1), exact - first)])
        for (x, a), (y, b), (z, c) in product(*places):
            found[voxel] += a * b * c * taken[x, y, z]
    return found


VALUES: dict[str, tuple[Callable[[np.ndarray, float], None], Slow, float]] = {
    "blur": (intensity.blur, slow_blur, 0.8),
    "brightness": (intensity.brighten, lambda image, factor: image.astype(float) * factor, 1.2),
    "more contrast": (intensity.change_contrast, slow_contrast, 1.25),
    "less contrast": (intensity.change_contrast, slow_contrast, 0.75),
    "low resolution": (intensity.lower_resolution, slow_low_resolution, 0.55),
    "gamma": (intensity.change_gamma, slow_gamma, 1.4),
    "inverted gamma": (
        intensity.change_gamma_inverted,
        lambda image, exponent: -slow_gamma(-image, exponent),
        0.7,
    ),
}


@pytest.mark.parametrize(("change", "slow", "value"), VALUES.values(), ids=VALUES)
def test_a_change_of_values_is_its_definition(
    change: Callable[[np.ndarray, float], None], slow: Slow, value: float
) -> None:
    image = image_of()
    before = image.copy()
    change(image, value)
    np.testing.assert_allclose(image, slow(before, value), rtol=1e-4, atol=1e-5)
    assert np.abs(image - before).max() > 1e-2


def test_noise_is_gaussian_and_as_wide_as_a_share_of_the_images_width() -> None:
    image = image_of((40, 40, 40))
    noisy = image.copy()
    intensity.add_noise(noisy, 0.1, np.random.default_rng(5))
    noise = (noisy - image) / (0.1 * image.std())
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert kstest(noise.ravel(), "norm").pvalue > 0.01
    again = image.copy()
    intensity.add_noise(again, 0.1, np.random.default_rng(5))
    np.testing.assert_array_equal(noisy, again)


@pytest.mark.parametrize("change", [intensity.change_gamma, intensity.change_contrast, intensity.blur])
def test_an_image_of_one_value_keeps_it(change: Callable[[np.ndarray, float], None]) -> None:
    image = np.full(SHAPE, 0.25, np.float32)
    change(image, 1.3)
    np.testing.assert_allclose(image, 0.25, atol=1e-6)


# --- places ---------------------------------------------------------------------------------------------


def test_a_rotation_turns_about_x_then_y_then_z() -> None:
    angles = np.deg2rad([10, 20, 30])
    (c, s) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, c[0], -s[0]], [0, s[0], c[0]]])
    about_y = np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    about_z = np.array([[c[2], -s[2], 0], [s[2], c[2], 0], [0, 0, 1]])
    np.testing.assert_allclose(rotation(angles), about_z @ about_y @ about_x, atol=1e-12)


def test_an_affine_turns_in_millimetres_and_scales_all_axes_alike() -> None:
    spacing = (1.5, 1.5, 3.0)
    asked = Transforms(rotation=Rotation(1.0, (20, 20, 20)), scaling=Varied(1.0, (1.2, 1.2)))
    affine = draw_affine(asked, spacing, PATCH, np.random.default_rng(1))
    in_millimetres = np.diag(spacing) @ affine @ np.diag(1 / np.array(spacing))
    np.testing.assert_allclose(in_millimetres @ in_millimetres.T, 1.44 * np.eye(3), atol=1e-9)
    assert np.abs(affine[2, :2]).min() > 0


def test_turns_about_z_alone_leave_z_alone() -> None:
    asked = Transforms(rotation=Rotation(1.0, (0, 0, 30)))
    affine = draw_affine(asked, (1.5, 1.5, 3.0), PATCH, np.random.default_rng(1))
    assert not affine[2, :2].any()
    assert not affine[:2, 2].any()
    assert affine[0, 1] != 0


@pytest.mark.parametrize(
    ("patch", "degrees"),
    [
        ((64, 64, 48), (30, 30, 30)),
        ((96, 96, 32), (30, 30, 30)),
        ((128, 128, 32), (0, 0, 30)),
        ((16, 64, 64), (30, 0, 0)),
    ],
    ids=str,
)
def test_a_flat_patch_turns_in_its_plane(patch: tuple[int, int, int], degrees: tuple[int, ...]) -> None:
    assert usual_degrees(patch) == degrees


@pytest.mark.parametrize("start", [(6, 7, 5), (-3, 14, 11)], ids=["inside", "over the edge"])
def test_a_turned_crop_is_scipys_trilinear_and_nearest(start: tuple[int, int, int]) -> None:
    chance = np.random.default_rng(3)
    image = chance.random((24, 28, 20), dtype=np.float32)
    label = chance.integers(0, 3, image.shape, dtype=np.uint8)
    affine = 1.1 * rotation(np.deg2rad([25, -20, 40]))
    size = (12, 10, 8)
    image_out, label_out = np.empty(size, np.float32), np.empty(size, np.uint8)
    turned_crop(image, label, start, affine, image_out, label_out)
    middle = (np.array(size) - 1) / 2
    # scipy takes outside voxels as 0 only from a padded volume on, as ours does everywhere.
    padded, shift = (
        [np.pad(array, 16) for array in (image, label)],
        np.array(start) + middle - affine @ middle + 16,
    )
    expected, classes = (
        affine_transform(array, affine, shift, size, order=order)
        for order, array in zip((1, 0), padded, strict=True)
    )
    np.testing.assert_allclose(image_out, expected, atol=1e-4)
    np.testing.assert_array_equal(label_out, classes)


PLACED = {
    "straight": Transforms(),
    "scaled": Transforms(scaling=Varied(1.0)),
    "turned": Transforms(rotation=Rotation(1.0), scaling=Varied(1.0)),
}


@pytest.mark.parametrize("placed", PLACED.values(), ids=PLACED)
def test_mirroring_turns_image_and_label_along_the_same_axes(
    cases: tuple[PreparedCase, ...], placed: Transforms
) -> None:
    """Never along R, which is not asked for."""
    mirroring = msgspec.structs.replace(placed, mirroring=ALWAYS.mirroring)
    seen = set()
    for epoch in range(12):
        # The flips are drawn after the crop's place, so the first crop of both has the same.
        plain, mirrored = (makers(cases[:1], each, epoch)[0]() for each in (placed, mirroring))
        image, label = plain.image[0, 0].numpy(), plain.label[0, 0].numpy()
        found = [
            axes
            for axes in ((), (1,), (2,), (1, 2))
            if np.allclose(mirrored.image[0, 0].numpy(), np.flip(image, axes), atol=1e-4)
            and (mirrored.label[0, 0].numpy() == np.flip(label, axes)).mean() > 0.99
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) >= 3


# --- chance ---------------------------------------------------------------------------------------------

NAMES = [name for name in Transforms.__struct_fields__ if name != "mirroring"]


def changed(transforms: Transforms, seed: int) -> bool:
    image = image_of()
    chance = np.random.default_rng(seed)
    if draw_affine(transforms, (1.0, 1.0, 1.0), PATCH, chance) is not None:
        return True
    vary(image, transforms, chance)
    return not np.array_equal(image, image_of())


@pytest.mark.parametrize("name", NAMES)
def test_a_transform_comes_as_often_as_asked(name: str) -> None:
    kind = Rotation if name == "rotation" else Varied
    counts = {
        share: sum(changed(Transforms(**{name: kind(share)}), seed) for seed in range(100))
        for share in (0.0, 0.5, 1.0)
    }
    assert counts[0.0] == 0
    assert 30 <= counts[0.5] <= 70
    assert counts[1.0] >= 80  # a low resolution of 0.99 may be the patch itself


def test_without_numbers_of_its_own_a_transform_has_nnunets() -> None:
    counts = dict.fromkeys(NAMES, 0)
    for name in NAMES:
        kind = Rotation if name == "rotation" else Varied
        counts[name] = sum(changed(Transforms(**{name: kind()}), seed) for seed in range(200))
    usual = {"rotation": 40, "scaling": 40, "noise": 20, "blur": 20, "brightness": 30, "contrast": 30}
    usual |= {"low_resolution": 25, "inverted_gamma": 20, "gamma": 60}
    for name, expected in usual.items():
        assert abs(counts[name] - expected) <= 20, name


def test_a_factor_is_below_one_as_often_as_above() -> None:
    asked = Transforms(brightness=Varied(1.0, (0.9, 3.0)))
    means = []
    for seed in range(200):
        image = np.ones(SHAPE, np.float32)
        vary(image, asked, np.random.default_rng(seed))
        means.append(float(image.mean()))
    assert 70 <= sum(mean < 1 for mean in means) <= 130
    assert min(means) >= 0.9
    assert max(means) <= 3.0


# --- batches --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedCase, ...]:
    folder = tmp_path_factory.mktemp("cases")
    chance = np.random.default_rng(0)
    prepared = []
    for index in range(3):
        image = chance.integers(-200, 300, (24, 28, 20), dtype=np.int16)
        label = np.zeros(image.shape, np.uint8)
        label[4 + index : 12, 8:20, 3:9] = 1
        case = write_case(folder, image, label, id=f"case{index}")
        prepared.append(prepare_case(case, WINDOWED, ORGANS, 64, folder / "cache"))
    return tuple(prepared)


def makers(
    cases: tuple[PreparedCase, ...], transforms: Transforms, epoch: int = 3
) -> list[Callable[[], Batch]]:
    training = Training(
        patch=PATCH,
        crops_per_volume=3,
        batch_size=1,
        learning_rate=1e-4,
        augmentation=Augmentation.CUSTOM,
        optimizer_state=OptimizerState.KEEP,
        precision=Precision.FP32,
        memory_format=MemoryFormat.CONTIGUOUS,
        threads=1,
        transforms=transforms,
    )
    return list(batch_makers(cases, training, 1, "basel", 2, epoch))


def test_with_every_transform_a_batch_depends_on_its_key_alone(cases: tuple[PreparedCase, ...]) -> None:
    in_order = [make() for make in makers(cases, ALWAYS)]
    backwards = list(Prefetch(workers=3, ahead=3).run(makers(cases, ALWAYS)[::-1]))[::-1]
    for one, other in zip(in_order, backwards, strict=True):
        assert one.image.numpy().tobytes() == other.image.numpy().tobytes()
        assert one.label.numpy().tobytes() == other.label.numpy().tobytes()
        assert one.image.isfinite().all()
        assert set(one.label.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("name", [*NAMES, "mirroring"])
def test_every_transform_takes_part(cases: tuple[PreparedCase, ...], name: str) -> None:
    without = msgspec.structs.replace(ALWAYS, **{name: None})
    with_it, without_it = (next(iter(makers(cases, each)))() for each in (ALWAYS, without))
    assert with_it.image.numpy().tobytes() != without_it.image.numpy().tobytes()
