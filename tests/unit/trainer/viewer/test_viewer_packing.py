import zlib

import numpy as np
import pytest

from builders.viewed import SHAPE, ball, body, viewed
from segviz_trainer.viewer.case import Modality
from segviz_trainer.viewer.drawn import Drawn
from segviz_trainer.viewer.packing import fit, pack


def unpack(packed: bytes, drawn: Drawn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As viewer.js does it, number by number."""
    data, count = zlib.decompress(packed), drawn.levels.size
    levels, level = [], 0
    for at in range(count):
        folded = data[at] | data[count + at] << 8
        level += (folded >> 1) ^ -(folded & 1)
        levels.append(level)
    bits = np.frombuffer(data[2 * count :], np.uint8).reshape(2, -1, count)
    truth, prediction = (np.stack([plane.reshape(drawn.shape, order="F") for plane in half]) for half in bits)
    return np.array(levels).reshape(drawn.shape, order="F"), truth, prediction


def values(packed: bytes, drawn: Drawn) -> np.ndarray:
    return drawn.low + drawn.step * unpack(packed, drawn)[0]


def test_a_ct_in_whole_units_comes_back_exactly() -> None:
    image = body()
    image[10, 10, 10], image[11, 10, 10], image[12, 10, 10] = 3071, -1024, 3071
    drawn, packed = fit(viewed(image=image))
    assert drawn.step == 1
    np.testing.assert_array_equal(values(packed, drawn), image[drawn.box.slices])


def test_other_values_come_back_within_half_a_step() -> None:
    image = np.random.default_rng(1).gamma(2, 0.3, SHAPE).astype(np.float32)
    drawn, packed = fit(viewed(image=image, modality=Modality.OTHER))
    low, high = np.quantile(image[drawn.box.slices], (0.0005, 0.9995))
    seen = np.clip(image[drawn.box.slices], low, high)
    assert np.abs(values(packed, drawn) - seen).max() <= drawn.step / 2 + 1e-6
    assert drawn.step == pytest.approx((high - low) / 4095)


def test_one_spike_takes_no_contrast_from_the_rest() -> None:
    image = np.random.default_rng(1).uniform(0, 100, SHAPE).astype(np.float32)
    image[3, 3, 3] = 1e9
    drawn, _ = fit(viewed(image=image, modality=Modality.OTHER))
    assert drawn.step < 0.05


def test_overlapping_organs_of_more_than_one_byte_come_back() -> None:
    organs = tuple(f"organ {number}" for number in range(11))
    truth = {name: ball((12, 10, 8), 1 + number / 3) for number, name in enumerate(organs)}
    prediction = {name: np.roll(mask, 2, axis=0) for name, mask in truth.items() if name != "organ 4"}
    drawn, packed = fit(viewed(organs=organs, truth=truth, prediction=prediction))
    _, *found = unpack(packed, drawn)
    for masks, bits in zip((truth, prediction), found, strict=True):
        for number, name in enumerate(organs):
            expected = masks.get(name, np.zeros(SHAPE, bool))[drawn.box.slices]
            np.testing.assert_array_equal(bits[number // 8] >> number % 8 & 1, expected, name)


def test_what_is_too_large_loses_grey_levels_then_surroundings_then_voxels() -> None:
    shape = (100, 100, 24)
    liver = ball((50, 50, 12), 3, shape)
    case = viewed(
        image=np.random.default_rng(0).normal(50, 15, shape).round().astype(np.float32),
        truth={"liver": liver},
        prediction={"liver": liver},
        spacing=(1, 1, 2),
    )
    found, limit = [], 10_000_000
    for _ in range(4):
        drawn, packed = fit(case, limit)
        assert len(packed) <= limit
        found.append((drawn.box.keeps.split()[1], drawn.step, drawn.factors))
        limit = len(packed) - 1
    assert found == [
        ("body", 1, (1, 1, 1)),
        ("body", 2, (1, 1, 1)),
        ("organs", 2, (1, 1, 1)),
        ("organs", 2, (2, 2, 1)),
    ]


def test_voxels_are_averaged_and_their_middle_names_the_organ() -> None:
    case = viewed(spacing=(1.0, 1.0, 1.0))
    drawn, packed = fit(case, 1_100)
    assert drawn.factors == (2, 2, 2)
    assert len(packed) <= 1_100
    corner = tuple(slice(each.start, each.start + 2) for each in drawn.box.slices)
    assert values(packed, drawn)[0, 0, 0] == pytest.approx(case.image[corner].mean(), abs=drawn.step)
    middle = tuple(slice(each.start + 1, each.stop, 2) for each in drawn.box.slices)
    inside = case.truth["liver"][middle]
    kept = drawn.mask(drawn.truth, 0)[tuple(slice(0, length) for length in inside.shape)]
    np.testing.assert_array_equal(kept, inside)


def test_a_case_that_cannot_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"case 7: .* bytes at the coarsest"):
        fit(viewed(), 10)


def test_the_body_is_kept_and_the_air_around_it_is_not() -> None:
    image = np.full((40, 40, 16), -1000, np.float32)
    image[15:25, 12:28, :] = 40
    liver = ball((20, 20, 8), 3, image.shape)
    drawn, _ = fit(viewed(image=image, truth={"liver": liver}, prediction={}, spacing=(3.0, 3.0, 3.0)))
    assert drawn.box.slices == (slice(13, 27), slice(10, 30), slice(0, 16))


def test_the_jump_goes_to_the_slices_that_differ_most() -> None:
    liver = ball((8, 10, 8), 4)
    wrong = liver.copy()
    wrong[6:9, 10, 6] = False
    wrong[8, 9:11, 8] = False
    drawn, _ = fit(viewed(truth={"liver": liver}, prediction={"liver": wrong}))
    first = drawn.box.first
    assert drawn.disagrees
    assert [at + begin for at, begin in zip(drawn.jump, first, strict=True)] == [8, 10, 6]


def test_without_disagreement_the_jump_goes_to_the_largest_slices() -> None:
    liver = ball((8, 10, 7), 4)
    drawn, _ = fit(viewed(truth={"liver": liver}, prediction={"liver": liver}))
    assert not drawn.disagrees
    assert [at + begin for at, begin in zip(drawn.jump, drawn.box.first, strict=True)] == [8, 10, 7]


def test_an_organ_that_is_not_annotated_is_no_disagreement() -> None:
    drawn, _ = fit(viewed(truth={"liver": ball((8, 10, 8), 4)}, prediction={"spleen": ball((16, 10, 9), 2)}))
    assert not drawn.disagrees


def test_the_same_case_packs_to_the_same_bytes() -> None:
    drawn, packed = fit(viewed())
    assert pack(drawn) == packed == fit(viewed())[1]
