from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from mistakes import build_federation, build_site, changed
from segviz_operator import acceptance
from segviz_operator.acceptance import accept
from segviz_operator.manifest import Federation, Site, parse
from segviz_operator.problem import InvalidManifest

ORGANS = {"basel/liver": "liver", "bern/spleen": "spleen", "chur/abdomen": "liver"}
EXTERNAL = {"alias": "chur", "siteRef": {"namespace": "chur", "name": "abdomen"}}
EVALUATED = {"spec.evaluation.sites": [EXTERNAL]}


def _federation(changes: Mapping[str, Any]) -> Federation:
    federation = parse(changed(build_federation(), changes))
    assert isinstance(federation, Federation)
    return federation


def _site(key: str, changes: Mapping[str, Any]) -> Site:
    namespace, _, name = key.partition("/")
    consenting = {
        "metadata.namespace": namespace,
        "spec.allowedFederations": ["default/abdomen"],
        "spec.release": "HeadsAndNorm",
        "spec.role": "Evaluation" if namespace == "chur" else "Training",
    }
    site = parse(changed(build_site(name, ORGANS[key]), {**consenting, **changes}))
    assert isinstance(site, Site)
    return site


def _sites(changes: Mapping[str, Mapping[str, Any]]) -> list[Site]:
    return [_site(key, changes.get(key, {})) for key in ORGANS]


@dataclass(frozen=True)
class Case:
    reason: str
    path: str
    says: tuple[str, ...]
    federation: Mapping[str, Any] = field(default_factory=dict)
    sites: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


REFUSED: dict[str, Case] = {
    "an alias inside and outside": Case(
        acceptance.ALIAS_TAKEN,
        "spec.evaluation.sites[0].alias",
        ('"basel" is already used by spec.sites[0]', "Give each site its own alias."),
        {"spec.evaluation.sites": [{**EXTERNAL, "alias": "basel"}]},
    ),
    "a site that is not there": Case(
        acceptance.SITE_NOT_FOUND,
        "spec.sites[0].siteRef",
        ('"basel/livre" names no SegVizSite', "Did you mean basel/liver?"),
        {"spec.sites[0].siteRef.name": "livre"},
    ),
    "an evaluation site that is to train": Case(
        acceptance.WRONG_ROLE,
        "spec.sites[2].siteRef",
        ("has the role Evaluation, not Training", "Move it to spec.evaluation.sites"),
        {"spec.sites[2]": EXTERNAL},
    ),
    "a training site that is to evaluate": Case(
        acceptance.WRONG_ROLE,
        "spec.evaluation.sites[0].siteRef",
        ("has the role Training, not Evaluation", "Move it to spec.sites"),
        EVALUATED,
        {"chur/abdomen": {"spec.role": "Training"}},
    ),
    "a site that did not consent": Case(
        acceptance.NOT_CONSENTED,
        "spec.sites[1].siteRef",
        ('"bern/spleen" has not consented', "add default/abdomen to its spec.allowedFederations"),
        sites={"bern/spleen": {"spec.allowedFederations": ["other/abdomen"]}},
    ),
    "an external site that did not consent": Case(
        acceptance.NOT_CONSENTED,
        "spec.evaluation.sites[0].siteRef",
        ("has not consented",),
        EVALUATED,
        {"chur/abdomen": {"spec.allowedFederations": []}},
    ),
    "a site twice": Case(
        acceptance.SITE_REPEATED,
        "spec.sites[2].siteRef",
        ('"basel/liver" is already used by spec.sites[0]', "Name each site once."),
        {"spec.sites[2]": {"alias": "again", "siteRef": {"namespace": "basel", "name": "liver"}}},
    ),
    "an organ without an owner": Case(
        acceptance.NO_OWNER,
        "spec.evaluation.sites[0]",
        ('"chur" annotates kidneys', "Add a site that annotates kidneys"),
        EVALUATED,
        {"chur/abdomen": {"spec.dataSets[0].organs": {"liver": [6], "kidneys": [2, 3]}}},
    ),
    "a quorum of more than all": Case(
        acceptance.TOO_FEW_SITES,
        "spec.participation.minSites",
        ("3 is more than the 2 in spec.sites", "Give at most 2."),
        {"spec.participation.minSites": 3},
    ),
    "a shared head that must stay": Case(
        acceptance.RELEASE_CONFLICT,
        "spec.sites[0]",
        ("has release None", "the one head of objective Marginal", "choose objective PerOrganHead"),
        {"spec.objective": "Marginal"},
        {"basel/liver": {"spec.release": "None"}},
    ),
    "a co-owned head that must stay": Case(
        acceptance.RELEASE_CONFLICT,
        "spec.sites[1]",
        ('"bern" has release None', "the head of liver, which other sites annotate too"),
        sites={"bern/spleen": {"spec.release": "None", "spec.dataSets[0].organs": {"liver": [1]}}},
    ),
    "an evaluation that needs BatchNorm": Case(
        acceptance.RELEASE_CONFLICT,
        "spec.sites[0]",
        ("has release Heads, but evaluation.norm OwnSite needs", "Choose evaluation.norm Adapted"),
        EVALUATED,
        {"basel/liver": {"spec.release": "Heads"}},
    ),
    "an evaluation that needs a head": Case(
        acceptance.RELEASE_CONFLICT,
        "spec.sites[0]",
        ("has release None, but spec.evaluation.sites would run its head",),
        EVALUATED,
        {"basel/liver": {"spec.release": "None"}},
    ),
    "nothing to choose the best round by": Case(
        acceptance.NO_VALIDATION,
        "spec.sites[1]",
        ("has no validation cases", "Choose selection Last"),
        sites={"bern/spleen": {"spec.split": {"train": 90, "validation": 0, "test": 10}}},
    ),
}

ACCEPTED: dict[str, tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]] = {
    "as it is": ({}, {}),
    "with an external site": (EVALUATED, {}),
    "heads alone, with adapted norm": (
        {**EVALUATED, "spec.evaluation.norm": "Adapted"},
        {"basel/liver": {"spec.release": "Heads"}},
    ),
    "heads alone, without BatchNorm at home": (
        {**EVALUATED, "spec.algorithm.name": "FedAvg"},
        {"basel/liver": {"spec.release": "Heads"}},
    ),
    "no release where nothing is evaluated": (EVALUATED, {"bern/spleen": {"spec.release": "None"}}),
    "nothing shared, nothing released": (
        {"spec.algorithm.name": "Local", "spec.objective": "Marginal"},
        {"basel/liver": {"spec.release": "None"}},
    ),
    "no validation for the last round": (
        {"spec.selection": "Last"},
        {"bern/spleen": {"spec.split": {"train": 90, "validation": 0, "test": 10}}},
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_federation_that_does_not_fit_its_sites_is_refused(case: Case):
    with pytest.raises(InvalidManifest) as refusal:
        accept(_federation(case.federation), _sites(case.sites))
    there = [each for each in refusal.value.problems if (each.reason, each.path) == (case.reason, case.path)]
    told = [str(each) for each in there]
    assert any(all(words in text for words in case.says) for text in told), str(refusal.value)
    assert all(text.startswith("SegVizFederation default/abdomen: ") for text in told)


@pytest.mark.parametrize(("federation", "sites"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_federation_that_fits_is_accepted(
    federation: Mapping[str, Any], sites: Mapping[str, Mapping[str, Any]]
):
    accept(_federation(federation), _sites(sites))


def test_sites_come_by_alias_whatever_their_order():
    federation = changed(build_federation(), EVALUATED)
    federation["spec"]["sites"].reverse()
    accepted = accept(_federation({"spec": federation["spec"]}), _sites({}))
    assert list(accepted.members) == ["basel", "bern"]
    assert [site.key for site in accepted.members.values()] == ["basel/liver", "bern/spleen"]
    assert [site.key for site in accepted.evaluators.values()] == ["chur/abdomen"]


def test_all_that_does_not_fit_is_told_at_once():
    with pytest.raises(InvalidManifest) as refusal:
        accept(_federation({"spec.participation.minSites": 3}), [])
    reasons = [each.reason for each in refusal.value.problems]
    assert reasons == ["SiteNotFound", "SiteNotFound", "TooFewSites"]


def test_every_check_can_refuse():
    reasons = {value for name, value in vars(acceptance).items() if name.isupper() and isinstance(value, str)}
    assert reasons == {case.reason for case in REFUSED.values()}
