"""Which round's model is the federation's."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from builders.synthetic import BASEL, BERN, CHUR, DIGEST, control_of, scores_of
from segviz_aggregator.selection import choose_final
from segviz_exchange.contract.choices import Selection
from segviz_exchange.contract.records import Control, Dice, Final, Round, RoundScores

TWO = {BASEL: ("liver",), BERN: ("spleen",)}
CO_OWNED = {BASEL: ("liver",), BERN: ("liver",), CHUR: ("spleen",)}
BEST = control_of(TWO)
LAST = control_of(TWO, selection=Selection.LAST)
OWNERS = control_of(CO_OWNED)


def scored(control: Control, *rounds: Mapping[str, float]) -> dict[int, dict[str, RoundScores]]:
    """Rounds from 0; in each, Dice by site."""
    return {
        number: {site: scores_of(control, site, number, dice) for site, dice in sites.items()}
        for number, sites in enumerate(rounds)
    }


def last(number: int, control: int = 1) -> Round:
    return Round(number, control, DIGEST, 1, (BASEL, BERN))


@dataclass(frozen=True)
class Case:
    control: Control
    scores: dict[int, dict[str, RoundScores]]
    last_round: int
    round: int
    validation: dict[str, float]


CASES = {
    "the best round need not be the last": Case(
        BEST,
        scored(
            BEST,
            {BASEL: 0.0, BERN: 0.0},
            {BASEL: 0.5, BERN: 0.75},
            {BASEL: 0.75, BERN: 0.75},
            {BASEL: 0.5, BERN: 0.5},
        ),
        3,
        2,
        {"liver": 0.75, "spleen": 0.75},
    ),
    "of equal rounds the earliest": Case(
        BEST,
        scored(BEST, {}, {BASEL: 0.25, BERN: 0.75}, {BASEL: 0.75, BERN: 0.25}),
        2,
        1,
        {"liver": 0.25, "spleen": 0.75},
    ),
    "round 0 does not count, however good": Case(
        BEST,
        scored(BEST, {BASEL: 0.9, BERN: 0.9}, {BASEL: 0.5, BERN: 0.5}),
        1,
        1,
        {"liver": 0.5, "spleen": 0.5},
    ),
    "round 0 counts where there is no other": Case(
        BEST, scored(BEST, {BASEL: 0.5, BERN: 0.25}), 0, 0, {"liver": 0.5, "spleen": 0.25}
    ),
    "a round without all organs does not count": Case(
        BEST,
        scored(BEST, {}, {BASEL: 0.9}, {BASEL: 0.5, BERN: 0.5}),
        2,
        2,
        {"liver": 0.5, "spleen": 0.5},
    ),
    "without a complete round, the last": Case(
        BEST, scored(BEST, {}, {BASEL: 0.9}, {BASEL: 0.25}), 2, 2, {"liver": 0.25}
    ),
    "without any score, the last": Case(BEST, {}, 2, 2, {}),
    "an organ is the mean of its owners": Case(
        OWNERS,
        scored(OWNERS, {}, {BASEL: 0.25, BERN: 0.75, CHUR: 1.0}),
        1,
        1,
        {"liver": 0.5, "spleen": 1.0},
    ),
    "organs count equally, however many own them": Case(
        OWNERS,
        # Over sites round 1 is better (2.25 to 2), over organs round 2 (0.75 to 0.625).
        scored(OWNERS, {}, {BASEL: 1.0, BERN: 1.0, CHUR: 0.25}, {BASEL: 0.5, BERN: 0.5, CHUR: 1.0}),
        2,
        2,
        {"liver": 0.5, "spleen": 1.0},
    ),
    "one owner's score is enough": Case(
        OWNERS, scored(OWNERS, {}, {BASEL: 0.5, CHUR: 1.0}), 1, 1, {"liver": 0.5, "spleen": 1.0}
    ),
    "an organ that nobody owns any more is not asked for": Case(
        control_of(TWO, excluded={BERN: "Left"}),
        scored(BEST, {}, {BASEL: 0.75}, {BASEL: 0.5}),
        2,
        1,
        {"liver": 0.75},
    ),
    "the last round, if the manifest says so": Case(
        LAST,
        scored(LAST, {}, {BASEL: 0.9, BERN: 0.9}, {BASEL: 0.5, BERN: 0.25}),
        2,
        2,
        {"liver": 0.5, "spleen": 0.25},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_choose_final(case: Case) -> None:
    final = choose_final(case.control, case.scores, last(case.last_round))
    assert final == Final(case.round, 1, case.validation)


def test_a_score_for_an_organ_of_somebody_else_does_not_count() -> None:
    scores = {1: {BASEL: RoundScores(BASEL, 1, {"spleen": Dice(1.0, 0.0, 1), "liver": Dice(0.5, 0.0, 1)})}}
    assert choose_final(BEST, scores, last(1)).validation == {"liver": 0.5}


def test_the_final_control_is_the_last_round_s_whatever_was_edited_after() -> None:
    assert choose_final(control_of(TWO, number=9), {}, last(2, control=7)).control == 7
