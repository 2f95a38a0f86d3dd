"""A federation's model as one file: which tensor predicts which organ."""

import numpy as np
import pytest

from builders.rig import small_federation
from segviz_exchange.contract.choices import EvaluationNorm
from segviz_exchange.contract.codec import Array
from segviz_exchange.contract.records import Exported, Variant
from segviz_exchange.contract.sharing import (
    COUNTER,
    NORM,
    PARAMETER,
    REPRESENTATION,
    SHARED_HEAD,
    TensorGroup,
)
from segviz_exchange.contract.spec import Evaluation
from segviz_trainer.models.exported import as_evaluated, assemble, averaged_norm, for_organ, is_complete, mean

GROUPS = {
    "body.conv": TensorGroup(REPRESENTATION, PARAMETER),
    "body.norm": TensorGroup(REPRESENTATION, NORM),
    "body.seen": TensorGroup(REPRESENTATION, COUNTER),
    "heads.liver.conv": TensorGroup("liver", PARAMETER),
    "heads.liver.norm": TensorGroup("liver", NORM),
    "heads.spleen.conv": TensorGroup("spleen", PARAMETER),
    "heads.spleen.norm": TensorGroup("spleen", NORM),
}


def tensors(**values: float) -> dict[str, Array]:
    """`body_conv=1` is the tensor body.conv of one element; a double underline is a slash."""
    return {name.replace("__", "/").replace("_", "."): np.float32([value]) for name, value in values.items()}


def test_the_common_tensors_predict_an_organ_that_has_none_of_its_own() -> None:
    common = tensors(body_conv=1, body_norm=2)
    assert for_organ("liver", common) == common


def test_an_organs_own_tensors_replace_the_common_ones() -> None:
    held = tensors(body_conv=1, body_norm=2, organ__liver__body_norm=3, organ__spleen__body_norm=4)
    assert for_organ("liver", held) == tensors(body_conv=1, body_norm=3)


def test_an_organ_whose_name_begins_like_another_is_not_taken_for_it() -> None:
    held = tensors(body_norm=1, organ__liver__body_norm=2, organ__liverleft__body_norm=3)
    assert for_organ("liver", held) == tensors(body_norm=2)


def test_the_averaged_norm_is_the_mean_over_organs() -> None:
    held = tensors(organ__liver__body_norm=1, organ__spleen__body_norm=4)
    assert averaged_norm(held, ("liver", "spleen"), GROUPS) == tensors(body_norm=2.5)


def test_the_averaged_norm_holds_nothing_but_norm() -> None:
    held = tensors(organ__liver__body_norm=1, organ__liver__body_conv=9, body_conv=5)
    assert averaged_norm(held, ("liver",), GROUPS) == tensors(body_norm=1)


def test_the_averaged_norm_leaves_out_an_organ_that_is_not_exported() -> None:
    held = tensors(organ__liver__body_norm=1, organ__spleen__body_norm=4)
    assert averaged_norm(held, ("liver",), GROUPS) == tensors(body_norm=1)


def test_the_averaged_norm_is_empty_where_norm_is_shared() -> None:
    assert averaged_norm(tensors(body_norm=1), ("liver", "spleen"), GROUPS) == {}


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (EvaluationNorm.AVERAGED, (2.5, 2.5)),
        (EvaluationNorm.OWN_SITE, (1, 4)),
        (EvaluationNorm.ADAPTED, (1, 4)),
    ],
)
def test_external_sets_are_scored_with_the_mean_norm_where_it_is_averaged(
    norm: EvaluationNorm, expected: tuple[float, float]
) -> None:
    spec = small_federation(evaluation=Evaluation((), norm, 0.5))
    organs = ("liver", "spleen")
    exported = Exported(Variant.BASE, 1, "", 0, organs, organs, spec)
    held = tensors(body_conv=7, organ__liver__body_norm=1, organ__spleen__body_norm=4)
    liver, spleen = expected
    assert as_evaluated(exported, held, GROUPS) == tensors(
        body_conv=7, organ__liver__body_norm=liver, organ__spleen__body_norm=spleen
    )


def test_an_owners_representation_is_put_under_its_organ() -> None:
    release = tensors(body_norm=1, heads_liver_conv=2)
    assembled = assemble("liver", [release], GROUPS)
    assert assembled == tensors(organ__liver__body_norm=1, heads_liver_conv=2)


def test_an_owners_multi_organ_head_is_put_under_its_organ() -> None:
    groups = {"heads._all.conv": TensorGroup(SHARED_HEAD, PARAMETER)}
    one = {"heads._all.conv": np.float32([1.0])}
    assert assemble("liver", [one], groups) == {"organ/liver/heads._all.conv": np.float32([1.0])}


def test_a_head_of_another_organ_is_not_assembled() -> None:
    release = tensors(heads_liver_conv=2, heads_spleen_conv=3)
    assert assemble("liver", [release], GROUPS) == tensors(heads_liver_conv=2)


SHARED = tensors(body_conv=1)
RELEASED = tensors(organ__liver__body_norm=1, heads_liver_conv=1, heads_liver_norm=1)
COMPLETE = {
    "shared and released": (SHARED | RELEASED, True),
    "shared norm": (SHARED | tensors(body_norm=1, heads_liver_conv=1, heads_liver_norm=1), True),
    "nothing shared": (RELEASED, False),
    "nothing released": (SHARED, False),
    "no norm": (SHARED | tensors(heads_liver_conv=1, heads_liver_norm=1), False),
    "another organ's norm": (
        SHARED | tensors(heads_liver_conv=1, heads_liver_norm=1, organ__spleen__body_norm=1),
        False,
    ),
    "no head": (SHARED | tensors(organ__liver__body_norm=1), False),
}


@pytest.mark.parametrize(("known", "expected"), COMPLETE.values(), ids=COMPLETE)
def test_an_organ_is_complete_when_nothing_untrained_would_stand_in(
    known: dict[str, Array], expected: bool
) -> None:
    assert is_complete("liver", known, GROUPS) is expected


def test_the_mean_of_equal_parts_is_each_of_them_bit_for_bit() -> None:
    part = {"w": np.float32([0.1, -0.0, 1e-38, 3.3333333])}
    assert mean([part] * 3)["w"].tobytes() == part["w"].tobytes()


def test_the_mean_is_summed_in_float64() -> None:
    # In float32, 2**24 + 1 is 2**24.
    parts = [{"w": np.float32([value])} for value in (2**24, 1, 1, -(2**24))]
    assert mean(parts) == {"w": np.float32([0.5])}


def test_the_mean_keeps_the_type() -> None:
    assert mean([{"w": np.float32([1])}, {"w": np.float32([2])}])["w"].dtype == np.float32


def test_the_mean_follows_the_given_order() -> None:
    # Even in float64 these do not commute: 1e16 + 1 is 1e16.
    parts = [{"w": np.float64([value])} for value in (1e16, 1.0, -1e16)]
    assert mean(parts) == {"w": np.float64([0.0])}
    assert mean([parts[0], parts[2], parts[1]]) == {"w": np.float64([1 / 3])}


def test_the_mean_leaves_its_parts_alone() -> None:
    parts = [{"w": np.float64([1.0])}, {"w": np.float64([2.0])}]
    mean(parts)
    assert parts == [{"w": np.float64([1.0])}, {"w": np.float64([2.0])}]


def test_the_mean_is_of_what_every_part_has() -> None:
    assert mean([tensors(a=1, b=1), tensors(b=3, c=1)]) == tensors(b=2)


def test_the_mean_of_nothing_is_nothing() -> None:
    assert mean([]) == {}
