"""Which sites can take part in a cluster."""

from typing import Any

import msgspec
import pytest

from builders.federations import build_spec
from builders.small_specs import site_spec
from segviz_exchange.contract import choices
from segviz_exchange.contract.site_spec import ClaimSource, FederationRef, Limits, State, TrainerPod
from segviz_operator.cluster.membership.attendance import attend
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.manifests.manifest import Federation, Site
from segviz_operator.manifests.problem import InvalidManifest, Problem

CONSENT = Owner("rbac.authorization.k8s.io/v1", "RoleBinding", "segviz:consent:radiology:abdomen", "rb")
POD = TrainerPod(choices.ImagePullPolicy.IF_NOT_PRESENT, image="registry.example/trainer")
STATE = State(ClaimSource("state"))
UID, OTHER = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"


def pinned(uid: str) -> FederationRef:
    return FederationRef("radiology", "abdomen", uid)


def site(**changes: Any) -> Site:
    base = {"trainer": POD, "state": STATE, "allowed_federations": (FederationRef("radiology", "abdomen"),)}
    return Site("site", "basel", site_spec(("liver",), **{**base, **changes}), {})


def federation(**participation: Any) -> Federation:
    spec = build_spec(("basel", "bern"))
    changed = msgspec.structs.replace(spec.participation, **participation)
    raw = {"metadata": {"uid": UID}}
    return Federation("abdomen", "radiology", msgspec.structs.replace(spec, participation=changed), raw)


WIDE = Limits(
    tuple(choices.AlgorithmName), tuple(choices.Objective), (choices.Start.SEEDED,), 100_000, 1_000, 1_000
)


UNREADABLE = InvalidManifest(
    [Problem("SegVizSite basel/site", "spec", "does not fit", "Update the operator.")]
)
CASES: dict[str, tuple[Site | InvalidManifest | None, Owner | None, str | None]] = {
    "all is there": (site(), CONSENT, None),
    "no such site": (None, CONSENT, "SiteNotFound"),
    "not readable": (UNREADABLE, CONSENT, "InvalidField"),
    "not allowed": (site(allowed_federations=(FederationRef("other", "abdomen"),)), CONSENT, "NotConsented"),
    "allowed by its UID": (site(allowed_federations=(pinned(UID),)), CONSENT, None),
    "allowed by its name too": (
        site(allowed_federations=(pinned(OTHER), FederationRef("radiology", "abdomen"))),
        CONSENT,
        None,
    ),
    "another of that name": (
        site(allowed_federations=(pinned(OTHER),)),
        CONSENT,
        "NotConsented",
    ),
    "within all limits": (site(limits=WIDE), CONSENT, None),
    "another algorithm": (
        site(limits=Limits(algorithms=(choices.AlgorithmName.MEDIAN,))),
        CONSENT,
        "BeyondLimits",
    ),
    "another objective": (
        site(limits=Limits(objectives=(choices.Objective.MARGINAL,))),
        CONSENT,
        "BeyondLimits",
    ),
    "another start": (site(limits=Limits(starts=(choices.Start.PRETRAINED,))), CONSENT, "BeyondLimits"),
    "too many rounds": (site(limits=Limits(max_rounds=1)), CONSENT, "BeyondLimits"),
    "no RoleBinding": (site(), None, "NotConsented"),
    "no image": (site(trainer=msgspec.structs.replace(POD, image=None)), CONSENT, "SiteIncomplete"),
    "no state": (site(state=None), CONSENT, "SiteIncomplete"),
    "a remote one needs neither": (site(state=None, remote=True), CONSENT, None),
}


@pytest.mark.parametrize(("there", "consent", "reason"), CASES.values(), ids=CASES)
def test_attendance(there: Site | InvalidManifest | None, consent: Owner | None, reason: str | None):
    sites = {} if there is None else {("basel", "site"): there}
    found = attend(federation(), sites, lambda namespace: consent)
    absence = found.absent.get("basel")
    assert (absence.reason if absence else None) == reason
    assert ("basel" in found.hosts) == (reason is None)
    assert found.absent["bern"].reason == "SiteNotFound"


def test_a_federation_beyond_a_limit_waits_with_the_limits_name():
    wanted = federation()
    found = attend(wanted, {("basel", "site"): site(limits=Limits(max_rounds=1))}, lambda namespace: CONSENT)
    assert not found.allows_start(wanted)
    reason, message = found.why_not()
    assert reason == "BeyondLimits"
    rounds = wanted.spec.rounds
    assert f"spec.limits.maxRounds is 1, and the federation has {rounds} rounds" in message


@pytest.mark.parametrize(("least", "starts"), [(None, False), (1, True), (2, False)])
def test_who_is_absent_is_waited_for_as_min_sites_says(least: int | None, starts: bool):
    wanted = federation(min_sites=least)
    found = attend(wanted, {("basel", "site"): site()}, lambda namespace: CONSENT)
    assert found.allows_start(wanted) is starts
    assert found.why_not()[0] == "SiteNotFound"


def test_a_quorum_that_no_sites_could_make_up_is_left_to_acceptance():
    """Nobody is absent, so there is nobody to wait for: the mistake is in the manifest."""
    wanted = federation(min_sites=3)
    spec = msgspec.structs.replace(wanted.spec, sites=wanted.spec.sites[:1])
    wanted = Federation("abdomen", "radiology", spec, {})
    found = attend(wanted, {("basel", "site"): site()}, lambda namespace: CONSENT)
    assert not found.absent
    assert found.allows_start(wanted)
