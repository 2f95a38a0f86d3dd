"""What a site tells of its cases: right, rounded, and nothing of few."""

from pathlib import Path

import numpy as np
import pytest

from builders.volumes import data_set, write_case
from segviz_exchange.contract.choices import Layout, OnBadCase
from segviz_exchange.contract.fingerprint import FLOOR, LEVELS, Fingerprint
from segviz_exchange.contract.ledger import decode, encode
from segviz_trainer.data.fingerprint import MeasuredCase, fingerprint, measure, summary_of
from segviz_trainer.data.layouts import Case, find_cases
from segviz_trainer.process.errors import BadCases

BTCV = Path(__file__).parents[5] / "shared/data"


def case(folder: Path, name: str = "a", shape: tuple[int, int, int] = (8, 10, 6), low: int = -100) -> Case:
    rng = np.random.default_rng(len(name))
    image = rng.integers(low, 200, shape).astype(np.int16)
    image[0, 0, 0] = low
    label = np.zeros(shape, np.uint8)
    label[2:5, 3:7, 1:4] = 1
    image[label == 1] = 50
    return write_case(folder, image, label, id=name)


def measured(spacing: float = 2.0, orientation: str = "LPS", liver: float | None = 1500.0) -> MeasuredCase:
    return MeasuredCase(
        spacing=(spacing, spacing, 3.0),
        shape=(100, 120, 40),
        orientation=orientation,
        below_zero=True,
        values=np.array([40.0, 60.0]),
        millilitres={} if liver is None else {"liver": liver},
    )


def test_a_case_is_measured_along_right_anterior_superior(tmp_path: Path) -> None:
    """Stored with its slices first, and the patient upside down."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = -5.0, 2.0, 3.0, 1.0
    label = np.zeros((6, 8, 10), np.uint8)
    label[1:3, 2:4, 2:4] = 1
    image = np.arange(480, dtype=np.int16).reshape(6, 8, 10)
    found = measure(write_case(tmp_path, image, label, affine), ("liver",), 100)
    assert (found.spacing, found.shape) == ((2.0, 3.0, 5.0), (8, 10, 6))
    assert found.millilitres == {"liver": pytest.approx(8 * 30 / 1000)}
    assert sorted(found.values) == sorted(image[label == 1])
    assert not found.below_zero


def test_a_large_organ_is_sampled_evenly(tmp_path: Path) -> None:
    label = np.ones((40, 40, 40), np.uint8)
    image = np.arange(64_000, dtype=np.int32).reshape(40, 40, 40)
    values = measure(write_case(tmp_path, image, label), ("liver",), 100).values
    assert len(values) <= 10_000
    assert values.mean() == pytest.approx(32_000, rel=0.01)


def test_a_site_tells_quantiles_over_its_cases(tmp_path: Path) -> None:
    cases = [case(tmp_path, name) for name in ("a", "b", "c", "d", "e")]
    told = fingerprint("basel", cases, ("liver",), 100, OnBadCase.REFUSE)
    assert (told.site, told.cases, told.below_zero) == ("basel", 5, True)
    assert told.spacing is not None
    assert told.shape is not None
    assert told.extent is not None
    assert told.intensities is not None
    assert [axis.p50 for axis in told.spacing] == [2.0, 2.0, 3.0]
    assert [axis.p50 for axis in told.shape] == [8, 10, 6]
    assert [axis.p50 for axis in told.extent] == [16, 20, 18]
    assert told.orientations == {"RAS": 5}
    assert told.intensities.quantiles == (50.0,) * len(LEVELS)
    assert (told.intensities.mean, told.intensities.sd, told.intensities.voxels) == (50.0, 0.0, 5 * 36)
    assert told.organs["liver"].millilitres.p50 == pytest.approx(36 * 12 / 1000)
    assert decode(encode(told), Fingerprint, "sites/basel/fingerprint.json") == told
    assert fingerprint("basel", cases, ("liver",), 100, OnBadCase.REFUSE) == told, "the same bytes"


def test_of_fewer_cases_than_the_floor_nothing_but_their_number_is_told() -> None:
    told = summary_of("basel", [measured()] * (FLOOR - 1))
    assert told == Fingerprint("basel", FLOOR - 1)


def test_a_rare_orientation_and_a_rare_organ_are_not_counted() -> None:
    cases = [*([measured(liver=None)] * 6), *([measured(orientation="RAS")] * 4)]
    told = summary_of("basel", cases)
    assert told.cases == 10
    assert told.orientations == {"LPS": 6}, "four with another one would be four patients"
    assert told.organs == {}


def test_neither_the_least_nor_the_greatest_of_a_number_is_told() -> None:
    cases = [measured(spacing) for spacing in (0.7, *(1.0,) * 18, 4.1)]
    told = summary_of("basel", cases)
    assert "0.7" not in encode(told).decode()
    assert "4.1" not in encode(told).decode()


def test_numbers_are_rounded() -> None:
    told = summary_of("basel", [measured(0.9765625)] * 5)
    assert told.spacing is not None
    assert told.spacing[0].p50 == 0.9766


def test_a_case_that_cannot_be_used_is_left_out_where_the_site_says_so(tmp_path: Path) -> None:
    cases = [case(tmp_path, name) for name in ("a", "b", "c", "d", "e", "f")]
    cases[0].image.write_bytes(b"no image")
    assert fingerprint("basel", cases, ("liver",), 100, OnBadCase.SKIP).cases == 5
    with pytest.raises(BadCases):
        fingerprint("basel", cases, ("liver",), 100, OnBadCase.REFUSE)


def test_real_ct_and_mr_are_told_apart() -> None:
    if not (BTCV / "btcv-3mm/img").is_dir():
        pytest.skip("../shared/data/btcv-3mm is not here")
    ct = data_set(Layout.BTCV, "btcv-3mm", organs={"liver": (6,)}, background=tuple({*range(1, 14)} - {6}))
    mr = data_set(Layout.MSD, "msd-hippocampus", organs={"anterior": (1,)}, background=(2,))
    told = {}
    for each in (ct, mr):
        (organ,) = each.organs
        cases = find_cases(BTCV, each, "x")[:5]
        told[each.path] = fingerprint("a", cases, (organ,), 1000, OnBadCase.REFUSE)
    assert (told["btcv-3mm"].below_zero, told["msd-hippocampus"].below_zero) == (True, False)
    assert told["btcv-3mm"].orientations == {"LAS": 5}
    spacing = told["btcv-3mm"].spacing
    assert spacing is not None
    assert [axis.p50 for axis in spacing] == [3.0, 3.0, 3.0]
    assert 1000 < told["btcv-3mm"].organs["liver"].millilitres.p50 < 3000
