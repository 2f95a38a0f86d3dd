"""What a federation trains once its sites have told of their cases: planned one time, then carried on."""

from collections.abc import Mapping

from msgspec.structs import replace

from segviz_exchange.contract.fingerprint import Fingerprint
from segviz_exchange.contract.records import Control
from segviz_exchange.contract.spec import FederationSpec
from segviz_operator.planning.plan import Plan, Unplannable, make_plan

NO_PLAN = "NoPlan"
"""Why a federation that is to be planned cannot begin."""


def planned(
    spec: FederationSpec, newest: Control | None, fingerprints: Mapping[str, Fingerprint]
) -> tuple[FederationSpec, tuple[str, ...]]:
    """The spec with plain numbers as soon as there can be, and why they are what they are.

    Who joins, leaves or tells something else later changes no plan that a control has.
    """
    if not spec.awaits_plan or newest is None:
        return spec, ()
    if newest.reasons:
        return _carried(spec, newest.spec), newest.reasons
    try:
        plan = _plan(replace(newest, spec=spec), fingerprints)
    except Unplannable:
        return spec, ()  # which `why_unplannable` tells
    return (spec, ()) if plan is None else (plan.spec, plan.reasons)


def why_unplannable(control: Control, fingerprints: Mapping[str, Fingerprint]) -> str | None:
    try:
        _plan(control, fingerprints)
    except Unplannable as error:
        return str(error)
    return None


def _plan(control: Control, fingerprints: Mapping[str, Fingerprint]) -> Plan | None:
    """None where nothing is to be planned, or somebody has not told yet."""
    if not control.spec.awaits_plan or not control.active or set(control.active) - fingerprints.keys():
        return None
    heads = max(len(control.members[alias].organs) for alias in control.active)
    told = [fingerprints[alias] for alias in control.active]
    return make_plan(control.spec, told, 1 if control.spec.shared_head else heads)


def _carried(spec: FederationSpec, before: FederationSpec) -> FederationSpec:
    """With the numbers that were planned before."""
    if spec.preprocessing.plan is not None:
        spec = replace(spec, preprocessing=before.preprocessing)
    if spec.model.plan is None:
        return spec
    training = replace(
        spec.training,
        patch=before.training.patch,
        batch_size=before.training.batch_size,
        crops_per_volume=before.training.crops_per_volume,
    )
    return replace(spec, model=before.model, training=training)
