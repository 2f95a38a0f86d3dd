"""Who trains and who is only ever reported depends on seed, data set and ids, and on nothing else."""

import random
from pathlib import Path

import pytest

from segviz_exchange.contract.site_spec import Split
from segviz_exchange.process.errors import Refusal
from segviz_trainer.data.layouts import Case
from segviz_trainer.data.splits import split_cases

USUAL = Split(train=70, validation=10, test=20)


def cases(count: int, data_set: str = "liver") -> list[Case]:
    return [
        Case(f"{index:03d}", Path("i"), Path("l"), data_set, {"liver": (1,)}, ()) for index in range(count)
    ]


def sizes(count: int, split: Split) -> tuple[int, int, int]:
    parts = split_cases(cases(count), split, seed=0)
    return len(parts.train), len(parts.validation), len(parts.test)


@pytest.mark.parametrize(
    ("count", "split", "expected"),
    [
        (100, USUAL, (70, 10, 20)),
        (10, USUAL, (7, 1, 2)),
        (7, USUAL, (5, 1, 1)),
        (3, USUAL, (1, 1, 1)),
        (1000, USUAL, (700, 100, 200)),
        (5, Split(train=98, validation=1, test=1), (3, 1, 1)),
        (5, Split(train=1, validation=1, test=98), (1, 1, 3)),  # the largest part gives, whichever it is
        (5, Split(train=1, validation=98, test=1), (1, 3, 1)),
        (5, Split(train=45, validation=45, test=10), (2, 2, 1)),  # the largest remainder first
        (5, Split(train=50, validation=50, test=0), (3, 2, 0)),  # and of equal ones the first part's
        (10, Split(train=61, validation=25, test=14), (6, 3, 1)),  # in percent of a case: 10, 50 and 40
        (10, Split(train=65, validation=25, test=10), (7, 2, 1)),  # 50, 50 and 0
        (5, Split(train=0, validation=0, test=100), (0, 0, 5)),
        (10, Split(train=80, validation=0, test=20), (8, 0, 2)),
    ],
)
def test_shares_are_met_and_no_part_with_a_share_is_empty(
    count: int, split: Split, expected: tuple[int, int, int]
) -> None:
    assert sizes(count, split) == expected


def test_every_case_is_in_exactly_one_part() -> None:
    parts = split_cases(cases(33), USUAL, seed=4)
    assert sorted(case.id for part in (parts.train, parts.validation, parts.test) for case in part) == [
        case.id for case in cases(33)
    ]


def test_the_order_of_listing_does_not_matter() -> None:
    shuffled = cases(40) + cases(10, "spleen")
    random.Random(1).shuffle(shuffled)
    assert split_cases(shuffled, USUAL, 3) == split_cases(cases(40) + cases(10, "spleen"), USUAL, 3)


def test_another_seed_or_data_set_splits_otherwise() -> None:
    def test_ids(data_set: str, seed: int) -> list[str]:
        return [case.id for case in split_cases(cases(40, data_set), USUAL, seed).test]

    assert test_ids("liver", 0) != test_ids("liver", 1)
    assert test_ids("liver", 0) != test_ids("spleen", 0)


def test_the_split_is_the_same_tomorrow() -> None:
    parts = split_cases(cases(20), USUAL, seed=0)
    assert [case.id for case in parts.validation] == ["005", "018"]
    assert [case.id for case in parts.test] == ["004", "006", "008", "019"]


def test_each_data_set_is_in_each_part() -> None:
    parts = split_cases(cases(90) + cases(3, "spleen"), USUAL, seed=0)
    for part in (parts.train, parts.validation, parts.test):
        assert {case.data_set for case in part} == {"liver", "spleen"}


def test_too_few_cases_are_refused_with_their_number() -> None:
    with pytest.raises(Refusal, match=r"'liver' has 2 case\(s\) for 3 parts"):
        split_cases(cases(2), USUAL, seed=0)


def test_a_part_with_the_smallest_share_wants_a_case_and_one_without_a_share_wants_none() -> None:
    with pytest.raises(Refusal, match=r"2 case\(s\) for 3 parts"):
        split_cases(cases(2), Split(train=98, validation=1, test=1), seed=0)
    assert sizes(2, Split(train=99, validation=0, test=1)) == (1, 0, 1)


def test_a_part_is_sorted_by_data_set_and_id() -> None:
    parts = split_cases(cases(40, "spleen") + cases(40), USUAL, seed=0)
    for part in (parts.train, parts.validation, parts.test):
        named = [(case.data_set, case.id) for case in part]
        assert named == sorted(named)
