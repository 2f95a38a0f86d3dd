"""Dice by hand, what is scored, and what of it leaves a site."""

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from builders.volumes import WINDOWED, liver_label, write_case
from segviz_exchange.contract.choices import Scores
from segviz_exchange.contract.ledger import decode, encode
from segviz_exchange.contract.records import CaseScore, Dice, Surface
from segviz_trainer.data.cache import PreparedCase, prepare_case
from segviz_trainer.metrics.agreement import agreement
from segviz_trainer.metrics.overlap import Mask, dice
from segviz_trainer.scoring.case_ids import case_name, may_leave, salted
from segviz_trainer.scoring.cases import score, summary, surface_summary

ORGANS = ("liver", "spleen")
ROWS = (CaseScore("a", "liver", 0.5), CaseScore("b", "liver", 1.0), CaseScore("a", "spleen", 0.25))


def mask(*on: int) -> Mask:
    values = np.zeros((2, 2, 2), bool)
    values.flat[list(on)] = True
    return values


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ((0, 1, 2), (0, 1, 2), 1.0),
        ((0, 1, 2), (2, 3, 4, 5, 6), 2 / 8),
        ((0, 1), (1, 2), 0.5),
        ((0, 1), (2, 3), 0.0),
        ((), (0, 1), 0.0),
        ((0, 1), (), 0.0),
        ((), (), 1.0),
    ],
    ids=[
        "equal",
        "one of 3 and 5",
        "half",
        "apart",
        "nothing found",
        "nothing there",
        "nothing found or there",
    ],
)
def test_dice_is_twice_the_overlap_over_both_sizes(
    prediction: tuple[int, ...], truth: tuple[int, ...], expected: float
) -> None:
    assert dice(mask(*prediction), mask(*truth)) == expected


# --- which rows -----------------------------------------------------------------------------------------


class Finds:
    """Stands for a predictor: finds part of what is labelled, for every organ."""

    def masks(self, case: PreparedCase, organs: tuple[str, ...]) -> dict[str, Mask]:
        assert organs  # the real one cannot predict nothing
        found = case.native_label() > 0
        found[:3] = False
        return dict.fromkeys(organs, found)


@pytest.fixture
def case(tmp_path: Path) -> PreparedCase:
    return prepare_case(write_case(tmp_path), WINDOWED, ORGANS, 64, tmp_path / "cache")


@pytest.fixture
def spleen(tmp_path: Path) -> PreparedCase:
    """Of a data set that annotates the spleen alone."""
    written = write_case(tmp_path / "other", id="s")
    spleen = type(written)("s", written.image, written.label, "other", {"spleen": (1,)}, (9,))
    return prepare_case(spleen, WINDOWED, ORGANS, 64, tmp_path / "cache")


def test_a_case_is_scored_against_the_stored_label(case: PreparedCase) -> None:
    truth = liver_label() == 1
    found = truth.copy()
    found[:3] = False
    assert 0 < found.sum() < truth.sum()
    assert score(Finds(), [case], ORGANS, ORGANS) == (CaseScore("clinic/a", "liver", dice(found, truth)),)


def test_with_tolerances_surfaces_are_scored_in_millimetres(case: PreparedCase) -> None:
    truth = liver_label() == 1
    found = truth.copy()
    found[:3] = False
    (row,) = score(Finds(), [case], ORGANS, ORGANS, tolerances={"liver": 1.5})
    expected = agreement(found, truth, (2.0, 2.0, 3.0), 1.5)
    assert (row.dice, row.hd95, row.nsd, row.missed) == (
        expected.dice,
        expected.hd95,
        expected.nsd,
        expected.missed,
    )
    assert 0 < row.nsd < 1


def test_an_organ_that_a_case_does_not_annotate_is_not_scored(
    case: PreparedCase, spleen: PreparedCase
) -> None:
    rows = score(Finds(), [case, spleen], ORGANS, ORGANS)
    assert [(row.case, row.organ) for row in rows] == [("clinic/a", "liver"), ("other/s", "spleen")]


def test_a_case_that_annotates_none_of_the_organs_is_passed_over(
    case: PreparedCase, spleen: PreparedCase
) -> None:
    rows = score(Finds(), [spleen, case], ORGANS, ("liver",))
    assert [(row.case, row.organ) for row in rows] == [("clinic/a", "liver")]


def test_the_class_in_the_label_is_that_of_the_sites_organs(spleen: PreparedCase) -> None:
    assert score(Finds(), [spleen], ORGANS, ("spleen",))[0].dice > 0


def test_progress_is_told_after_every_case(case: PreparedCase, spleen: PreparedCase) -> None:
    told: list[int] = []
    score(Finds(), [case, spleen], ORGANS, ("liver",), told.append)
    assert told == [1, 2]


# --- what is made of them -------------------------------------------------------------------------------


def test_the_summary_has_the_standard_deviation_of_all_cases_not_of_a_sample() -> None:
    assert summary(ROWS)["liver"] == Dice(mean=0.75, sd=0.25, cases=2)


def test_a_single_case_has_a_standard_deviation_of_zero() -> None:
    assert summary(ROWS)["spleen"] == Dice(mean=0.25, sd=0.0, cases=1)


def test_the_summary_of_nothing_is_empty() -> None:
    assert summary(()) == {}


def test_the_summary_of_surfaces_counts_a_miss_and_drops_nothing() -> None:
    rows = (
        CaseScore("a", "liver", 0.5, 4.0, 0.5, False),
        CaseScore("b", "liver", 0.0, 100.0, 0.0, True),
        CaseScore("a", "spleen", 1.0, 0.0, 1.0, False),
    )
    assert surface_summary(rows) == {
        "liver": Surface(hd95=52.0, hd95_sd=48.0, nsd=0.25, nsd_sd=0.25, misses=1),
        "spleen": Surface(hd95=0.0, hd95_sd=0.0, nsd=1.0, nsd_sd=0.0, misses=0),
    }


def test_rows_of_dice_alone_have_no_summary_of_surfaces() -> None:
    assert surface_summary(ROWS) == {}


def test_under_summary_no_row_leaves() -> None:
    assert may_leave(ROWS, Scores.SUMMARY, "salt") == ()


def test_per_case_every_row_leaves_with_its_score() -> None:
    left = may_leave(ROWS, Scores.PER_CASE, "salt")
    assert [(row.organ, row.dice) for row in left] == [(row.organ, row.dice) for row in ROWS]


def test_no_case_id_leaves() -> None:
    rows = (CaseScore("patient-meier", "liver", 0.5),)
    assert b"meier" not in msgspec.json.encode(may_leave(rows, Scores.PER_CASE, "salt"))


def test_one_case_has_one_id_whatever_the_organ() -> None:
    left = may_leave(ROWS, Scores.PER_CASE, "salt")
    assert left[0].case == left[2].case != left[1].case


def test_cases_that_two_data_sets_number_alike_have_two_ids(case: PreparedCase) -> None:
    same = replace(case, data_set="other")
    left = may_leave(score(Finds(), [case, same], ORGANS, ORGANS), Scores.PER_CASE, "salt")
    assert len({row.case for row in left}) == 2


def test_a_case_has_the_same_id_at_a_site_that_pools_its_data_set(case: PreparedCase) -> None:
    """Nothing of the site itself is in an id, so a pooled row's cases pair with the sites'."""
    assert salted(case_name(case), "salt") == hashlib.sha256(b"salt/clinic/a").hexdigest()[:12]


def test_an_id_cannot_be_found_without_the_salt() -> None:
    one, other = (may_leave(ROWS, Scores.PER_CASE, salt)[0].case for salt in ("salt", "pepper"))
    assert one != other


def test_scores_are_plain_numbers_that_a_record_takes() -> None:
    """NumPy counts in integers of its own, and what is divided by them is no float to an encoder."""
    truth = np.zeros((6, 6, 6), bool)
    truth[1:4, 1:4, 1:4] = True
    found = agreement(np.roll(truth, 1, axis=0), truth, (1.0, 1.0, 1.0), 1.0)
    row = CaseScore("case", "liver", found.dice, found.hd95, found.nsd, found.missed)
    assert decode(encode(row), CaseScore, "row") == row
