"""Which tensor goes where, by algorithm: what leaves a site, and over whom it is averaged."""

from dataclasses import dataclass

import numpy as np
import pytest

from builders.synthetic import BASEL, BERN, CHUR, control_of, groups_of, model_of
from segviz_exchange.contract import sharing
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.codec import info_of
from segviz_exchange.contract.records import Control
from segviz_exchange.contract.sharing import (
    COUNTER,
    NORM,
    PARAMETER,
    REPRESENTATION,
    TensorGroup,
    contributors,
    shared_by,
)

TWO_OWN_LIVER = {BASEL: ("liver",), BERN: ("liver", "spleen"), CHUR: ("pancreas",)}
BODY = ("body.conv", "body.norm")
LIVER = ("heads.liver.conv", "heads.liver.norm")
ALL_HEAD = ("heads._all.conv", "heads._all.norm")


@dataclass(frozen=True)
class Case:
    control: Control
    shared: dict[str, tuple[str, ...]]


FED_BN, LOCAL = AlgorithmName.FED_BN, AlgorithmName.LOCAL
MARGINAL = Objective.MARGINAL
EACH = (BASEL, BERN, CHUR)

CASES = {
    "FedAvg, one owner a head: the representation alone": Case(control_of(), dict.fromkeys(EACH, BODY)),
    "FedProx shares as FedAvg does": Case(
        control_of(algorithm=AlgorithmName.FED_PROX), dict.fromkeys(EACH, BODY)
    ),
    "FedBN keeps what a BatchNorm owns": Case(
        control_of(algorithm=FED_BN), dict.fromkeys(EACH, ("body.conv",))
    ),
    "Local shares nothing": Case(control_of(algorithm=LOCAL), dict.fromkeys(EACH, ())),
    "FedAvg, two owners: their head goes to each other": Case(
        control_of(TWO_OWN_LIVER), {BASEL: BODY + LIVER, BERN: BODY + LIVER, CHUR: BODY}
    ),
    "FedBN, two owners: the head without its BatchNorm": Case(
        control_of(TWO_OWN_LIVER, algorithm=FED_BN),
        {BASEL: ("body.conv", LIVER[0]), BERN: ("body.conv", LIVER[0]), CHUR: ("body.conv",)},
    ),
    "Local, two owners: still nothing": Case(
        control_of(TWO_OWN_LIVER, algorithm=LOCAL), dict.fromkeys(EACH, ())
    ),
    "FedAvg, one multi-organ head: everything": Case(
        control_of(objective=MARGINAL), dict.fromkeys(EACH, BODY + ALL_HEAD)
    ),
    "FedBN, one multi-organ head: everything but BatchNorm": Case(
        control_of(objective=MARGINAL, algorithm=FED_BN),
        dict.fromkeys(EACH, ("body.conv", "heads._all.conv")),
    ),
    "Central: the one site's whole model": Case(
        control_of({BASEL: ("liver", "spleen")}, algorithm=AlgorithmName.CENTRAL), {BASEL: BODY + ALL_HEAD}
    ),
    "FedAdam shares as FedAvg does": Case(
        control_of(algorithm=AlgorithmName.FED_ADAM), dict.fromkeys(EACH, BODY)
    ),
    "an owner that is left out leaves its head to the other": Case(
        control_of(TWO_OWN_LIVER, excluded={BERN: "Suspended"}), {BASEL: BODY, BERN: (), CHUR: BODY}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_shared_by(case: Case) -> None:
    groups = groups_of(case.control)
    for site, names in case.shared.items():
        assert shared_by(site, groups, case.control) == tuple(sorted(names))


EVERY_CONTROL = [
    control_of(organs, algorithm=algorithm)
    for organs in (TWO_OWN_LIVER, {BASEL: ("liver",), BERN: ("spleen",)})
    for algorithm in AlgorithmName
    if not algorithm.is_central  # their one head is everybody's, as under a shared objective
]


@pytest.mark.parametrize(
    "control", EVERY_CONTROL, ids=lambda control: f"{control.spec.algorithm.name}-{len(control.members)}"
)
def test_a_head_never_leaves_the_owners_of_its_organ(control: Control) -> None:
    for group in groups_of(control).values():
        if group.block != REPRESENTATION:
            assert set(contributors(group, control)) <= set(control.owners(group.block))
            assert len(contributors(group, control)) != 1


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize("algorithm", AlgorithmName)
def test_counters_are_never_shared(algorithm: AlgorithmName, objective: Objective) -> None:
    control = control_of(TWO_OWN_LIVER, algorithm=algorithm, objective=objective)
    for group in groups_of(control).values():
        if group.kind == COUNTER:
            assert contributors(group, control) == ()


def test_groups_survive_the_metadata() -> None:
    groups = groups_of(control_of())
    assert sharing.decode_groups(sharing.encode_groups(groups)) == groups


def test_an_organ_that_joins_gets_a_head_of_the_same_shape() -> None:
    control = control_of()
    infos = {name: info_of(value) for name, value in model_of(control).items()}
    more_infos, more_groups = sharing.with_organs(infos, groups_of(control), ("kidneys", "liver"))
    assert more_infos["heads.kidneys.conv"] == infos["heads.liver.conv"]
    assert {name for name, group in more_groups.items() if group.block == "kidneys"} == {
        "heads.kidneys.conv",
        "heads.kidneys.norm",
        "heads.kidneys.seen",
    }
    assert infos.keys() < more_infos.keys()


def test_only_the_head_s_own_name_gives_way_to_the_organ_that_joins() -> None:
    name = "heads.liver.skip.heads.liver.conv"
    info = info_of(np.ones(4, np.float32))
    groups = {name: TensorGroup("liver", PARAMETER)}
    _, extended = sharing.with_organs({name: info}, groups, ("liver", "spleen"))
    assert extended.keys() == {name, "heads.spleen.skip.heads.liver.conv"}


def test_a_head_that_is_there_stays_as_it_is() -> None:
    control = control_of()
    infos = {name: info_of(value) for name, value in model_of(control).items()}
    assert sharing.with_organs(infos, groups_of(control), control.organs) == (infos, groups_of(control))


def test_several_organs_may_join_at_once() -> None:
    control = control_of({BASEL: ("liver",)})
    infos = {name: info_of(value) for name, value in model_of(control).items()}
    _, groups = sharing.with_organs(infos, groups_of(control), ("colon", "liver", "spleen"))
    assert groups == groups_of(control_of({BASEL: ("colon", "liver", "spleen")}))


def test_the_head_for_all_organs_gets_no_other_beside_it() -> None:
    control = control_of(objective=MARGINAL)
    infos = {name: info_of(value) for name, value in model_of(control).items()}
    assert sharing.with_organs(infos, groups_of(control), ("kidneys",)) == (infos, groups_of(control))


def test_a_model_without_heads_gets_none() -> None:
    groups = {"body.conv": TensorGroup(REPRESENTATION, PARAMETER)}
    infos = {"body.conv": info_of(np.ones(4, np.float32))}
    assert sharing.with_organs(infos, groups, ("liver",)) == (infos, groups)


def test_names_are_sorted_whatever_the_order_of_the_groups() -> None:
    control = control_of()
    backwards = dict(reversed(groups_of(control).items()))
    assert shared_by(BASEL, backwards, control) == BODY


def test_groups_are_written_as_they_have_always_been() -> None:
    groups = {
        "heads.liver.conv": TensorGroup("liver", PARAMETER),
        "body.norm": TensorGroup(REPRESENTATION, NORM),
        "body.seen": TensorGroup(REPRESENTATION, COUNTER),
    }
    assert sharing.encode_groups(groups) == (
        '{"body.norm": ["representation", "norm"], "body.seen": ["representation", "counter"], '
        '"heads.liver.conv": ["liver", "parameter"]}'
    )
    assert sharing.GROUPS == "groups"
    assert sharing.SHARED_HEAD == "_all"
