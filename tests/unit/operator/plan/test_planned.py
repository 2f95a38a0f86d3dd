"""When a federation is planned, and that a plan stays."""

from dataclasses import replace as with_
from typing import Any

from msgspec.structs import replace

from builders.federations import build_spec
from builders.situations import AGGREGATOR, NOON, running
from segviz_exchange.contract.choices import Planning
from segviz_exchange.contract.fingerprint import Fingerprint, Intensities, OrganSize, Spread
from segviz_exchange.contract.records import Control
from segviz_operator.plan.decide import (
    Desired,
    Observed,
    WriteControl,
    decide,
    failure_of,
    next_control,
)

ORGANS = {"basel": ("liver",), "bern": ("spleen",), "geneva": ("pancreas",)}
BASEL, BERN = running("Trainer", "basel"), running("Trainer", "bern")


def told(site: str, cases: int = 20, spacing: float = 2.0) -> Fingerprint:
    axes = tuple(Spread(each, each, each) for each in (spacing, spacing, spacing))
    extent = tuple(Spread(each, each, each) for each in (200.0, 200.0, 160.0))
    shape = tuple(Spread(e.p50 / spacing, e.p50 / spacing, e.p50 / spacing) for e in extent)
    values = Intensities(1000, 50.0, 20.0, (0.0, 5.0, 10.0, 40.0, 50.0, 60.0, 90.0, 95.0, 100.0))
    sizes = {"liver": OrganSize(cases, Spread(1.0, 2.0, 3.0))}
    return Fingerprint(site, cases, axes, shape, extent, {}, True, values, sizes)


def desired(*sites: str, **changes: Any) -> Desired:
    spec = build_spec(sites or ("basel", "bern"), **changes)
    spec = replace(
        spec,
        preprocessing=replace(spec.preprocessing, plan=Planning.AUTO),
        model=replace(spec.model, plan=Planning.AUTO),
    )
    return Desired(spec, {alias: ORGANS[alias] for alias in sites or ("basel", "bern")})


def first() -> Control:
    return next_control(desired(), Observed())


BOTH = {"basel": told("basel"), "bern": told("bern")}


def planned() -> Control:
    return next_control(desired(), Observed(control=first(), fingerprints=BOTH))


def test_the_first_control_asks_and_sites_start_to_measure() -> None:
    write, *others = decide(desired(), Observed(), NOON)
    assert write == WriteControl(first())
    assert first().spec.awaits_plan
    assert len(others) == 3, "aggregator and both trainers"


def test_it_waits_for_the_last_site() -> None:
    some = Observed(
        control=first(), workloads=(AGGREGATOR, BASEL, BERN), fingerprints={"basel": BOTH["basel"]}
    )
    assert decide(desired(), some, NOON) == ()


def test_then_the_next_control_has_plain_numbers_and_reasons() -> None:
    control = planned()
    assert control.number == 2
    assert not control.spec.awaits_plan
    assert control.spec.preprocessing.spacing_millimetres == (2.0, 2.0, 2.0)
    assert control.spec.preprocessing.intensity.window == (0.0, 100.0)
    assert control.spec.training.patch != (8, 8, 8)
    assert control.reasons[0] == "Planned from 40 training cases of basel, bern."


def test_a_plan_that_is_written_is_not_made_again() -> None:
    there = Observed(control=planned(), workloads=(AGGREGATOR, BASEL, BERN), fingerprints=BOTH)
    assert decide(desired(), there, NOON) == ()


def test_a_joiner_never_changes_it() -> None:
    other = {**BOTH, "geneva": told("geneva", 500, spacing=1.0)}
    there = Observed(control=planned(), fingerprints=other, newest_round=1)
    control = next_control(desired("basel", "bern", "geneva"), there)
    assert (control.number, len(control.members)) == (3, 3)
    before = planned()
    assert (control.spec.model, control.spec.training) == (before.spec.model, before.spec.training)
    assert (control.spec.preprocessing, control.reasons) == (before.spec.preprocessing, before.reasons)


def test_nor_does_one_who_leaves_or_tells_something_else() -> None:
    there = Observed(control=planned(), fingerprints={"basel": told("basel", 90, spacing=5.0)})
    control = next_control(desired("basel"), there)
    assert control.spec.preprocessing == planned().spec.preprocessing


def test_what_may_change_still_changes() -> None:
    there = Observed(control=planned(), fingerprints=BOTH)
    control = next_control(desired(participation={"maxNormRatio": 10.0, "minSites": 1}), there)
    assert control.spec.participation.min_sites == 1
    assert control.spec.model == planned().spec.model


def test_a_site_that_is_left_out_is_not_waited_for() -> None:
    members = first().members
    out = {**members, "bern": replace(members["bern"], excluded="refused: no cases")}
    control = replace(first(), members=out)
    there = Observed(control=control, fingerprints={"basel": BOTH["basel"]})
    found = next_control(desired(), there)
    assert found.reasons[0] == "Planned from 20 training cases of basel."


def test_sites_that_all_tell_nothing_end_it_with_the_reason() -> None:
    few = {"basel": Fingerprint("basel", 3), "bern": Fingerprint("bern", 4)}
    there = Observed(control=first(), workloads=(AGGREGATOR, BASEL, BERN), fingerprints=few)
    assert failure_of(first(), there) == (
        "NoPlan: no site has 5 training cases or more, and of fewer nothing is told. Write the numbers "
        "into the manifest in place of plan: Auto."
    )
    assert {action.site for action in decide(desired(), there, NOON)} == {None, "basel", "bern"}, (
        "all is stopped"
    )


def test_numbers_in_place_of_the_plan_mend_it() -> None:
    few = {"basel": Fingerprint("basel", 3), "bern": Fingerprint("bern", 4)}
    plain = with_(desired(), spec=build_spec(("basel", "bern")))
    control = next_control(plain, Observed(control=first(), fingerprints=few))
    assert (control.number, control.spec.awaits_plan, control.reasons) == (2, False, ())
    assert failure_of(control, Observed(control=control, fingerprints=few)) is None


def test_an_edit_to_a_plan_does_not_carry_numbers_that_nobody_planned() -> None:
    """Before training begins a coordinator may still change their mind."""
    plain = with_(desired(), spec=build_spec(("basel", "bern")))
    before = next_control(plain, Observed())
    control = next_control(desired(), Observed(control=before, fingerprints=BOTH))
    assert control.reasons
    assert control.spec.model.channels != before.spec.model.channels
