from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from builders.mistakes import REMOVED, build_federation, build_site, changed
from segviz_operator.manifests import acceptance, consenting, organs
from segviz_operator.manifests.acceptance import accept
from segviz_operator.manifests.manifest import Federation, Site, parse
from segviz_operator.manifests.past import KnownSite, Past
from segviz_operator.manifests.problem import InvalidManifest

ORGANS = {"basel/liver": "liver", "bern/spleen": "spleen", "chur/abdomen": "liver"}
EXTERNAL = {"alias": "chur", "siteRef": {"namespace": "chur", "name": "abdomen"}}
UID = "11111111-2222-3333-4444-555555555555"
EVALUATED = {"spec.evaluation.sites": [EXTERNAL]}

ALLOWED = {"namespace": "default", "name": "abdomen"}


def _federation(changes: Mapping[str, Any]) -> Federation:
    federation = parse(changed(build_federation(), changes))
    assert isinstance(federation, Federation)
    return federation


def _site(key: str, changes: Mapping[str, Any]) -> Site:
    namespace, _, name = key.partition("/")
    base = {
        "metadata.namespace": namespace,
        "spec.allowedFederations": [ALLOWED],
        "spec.release": "HeadsAndNorm",
        "spec.role": "Evaluation" if namespace == "chur" else "Training",
    }
    site = parse(changed(build_site(name, ORGANS[key]), {**base, **changes}))
    assert isinstance(site, Site)
    return site


def _sites(changes: Mapping[str, Mapping[str, Any]]) -> list[Site]:
    return [_site(key, changes.get(key, {})) for key in ORGANS]


def _past(*bound: str, organs: tuple[str, ...] = ("liver", "spleen"), carriers: tuple[str, ...] = ()) -> Past:
    """Basel, bern and chur were accepted as they are; the `bound` ones have delivered."""
    sites = {key.partition("/")[0]: KnownSite(key, _site(key, {}).spec) for key in ORGANS}
    return Past("default/abdomen", {}, sites, frozenset(bound), frozenset(organs), frozenset(carriers))


@dataclass(frozen=True)
class Case:
    reason: str
    path: str
    says: tuple[str, ...]
    federation: Mapping[str, Any] = field(default_factory=dict)
    sites: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    past: Past | None = None
    subject: str = "SegVizFederation default/abdomen"


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
        ('"basel/livre" refers to a SegVizSite that does not exist', "Did you mean basel/liver?"),
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
        consenting.NOT_CONSENTED,
        "spec.sites[1].siteRef",
        ('"bern/spleen" has not consented', "add default/abdomen to its spec.allowedFederations"),
        sites={"bern/spleen": {"spec.allowedFederations": [{"namespace": "other", "name": "abdomen"}]}},
    ),
    "a site that consents to another federation of that name": Case(
        consenting.NOT_CONSENTED,
        "spec.sites[1].siteRef",
        ('"bern/spleen" has not consented', f"list it with uid: {UID}."),
        {"metadata.uid": UID},
        {"bern/spleen": {"spec.allowedFederations": [{**ALLOWED, "uid": UID.replace("1", "2")}]}},
    ),
    "more than a site's limits allow": Case(
        consenting.BEYOND_LIMITS,
        "spec.sites[1].siteRef",
        ("spec.limits.maxRounds is 10, and the federation has 11 rounds", "ask the site's owner"),
        {"spec.rounds": 11},
        {"bern/spleen": {"spec.limits.maxRounds": 10}},
    ),
    "an external site that did not consent": Case(
        consenting.NOT_CONSENTED,
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
        ("has release Heads, but under FedBN an external site needs its BatchNorm", "HeadsAndNorm"),
        {**EVALUATED, "spec.evaluation.norm": "Adapted"},
        {"basel/liver": {"spec.release": "Heads"}},
    ),
    "an evaluation of local training": Case(
        acceptance.RELEASE_CONFLICT,
        "spec.sites[0]",
        ("under Local an external site needs its whole model",),
        {**EVALUATED, "spec.algorithm.name": "Local"},
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
    "a member with another split": Case(
        acceptance.SITE_CHANGED,
        "spec.split",
        ("cannot change: the site's data are part of default/abdomen already, as bern", "Set it back"),
        sites={"bern/spleen": {"spec.split": {"train": 80, "validation": 10, "test": 10}}},
        past=_past("bern"),
        subject="SegVizSite bern/spleen",
    ),
    "a member with other labels": Case(
        acceptance.SITE_CHANGED,
        "spec.dataSets",
        ("cannot change",),
        sites={"bern/spleen": {"spec.dataSets[0].organs": {"spleen": [2]}}},
        past=_past("bern"),
        subject="SegVizSite bern/spleen",
    ),
    "an external site with other cases": Case(
        acceptance.SITE_CHANGED,
        "spec.dataSets",
        ("as chur",),
        EVALUATED,
        {"chur/abdomen": {"spec.dataSets[0].cases": {"stop": 5}}},
        _past("chur"),
        "SegVizSite chur/abdomen",
    ),
    "an alias that is given to another site": Case(
        acceptance.SITE_CHANGED,
        "spec.sites[1].siteRef",
        ('"chur/abdomen" stood for bern/spleen until now', "an alias of its own"),
        {"spec.sites[1].siteRef": EXTERNAL["siteRef"]},
        {"chur/abdomen": {"spec.role": "Training"}},
        _past("bern"),
    ),
    "an organ that the one head has no channel for": Case(
        acceptance.ORGAN_TOO_LATE,
        "spec.sites[1]",
        ('"bern" annotates spleen, which no site annotated', "Start a new federation that has spleen"),
        {"spec.objective": "Marginal"},
        past=_past(organs=("liver", "pancreas")),
    ),
    "new sites in place of all that train": Case(
        acceptance.NO_SITE_STAYS,
        "spec.sites",
        ("removes every site that is training (basel)", "Keep at least one of them until a new site"),
        {"spec.sites[0]": REMOVED},
        past=_past("basel", carriers=("basel",)),
    ),
    "the last site that trains, where another has withdrawn": Case(
        acceptance.NO_SITE_STAYS,
        "spec.sites",
        ("removes every site that is training (basel)",),
        {"spec.sites[0]": REMOVED},
        {"bern/spleen": {"spec.allowedFederations": []}},
        _past("basel", "bern", carriers=("basel", "bern")),
    ),
    "a window of its own where all use one": Case(
        acceptance.WINDOW_NOT_ALLOWED,
        "spec.sites[0]",
        ('"basel" sets a window for its data set ct', "siteWindows to true"),
        sites={"basel/liver": {"spec.dataSets[0].window": [-57, 164]}},
    ),
    "left and right mirrored for a left kidney": Case(
        organs.SIDE_MIRRORED,
        "spec.sites[0]",
        ('"basel" annotates kidney-left, which mirroring along R', "Remove R from"),
        {"spec.training": {"augmentation": "Custom", "transforms": {"mirroring": {"axes": ["A", "R"]}}}},
        {"basel/liver": {"spec.dataSets[0].organs": {"kidney-left": [2]}}},
    ),
    "the largest component of an organ misspelt": Case(
        organs.COMPONENT_OF_NOTHING,
        "spec.evaluation.largestComponent[1]",
        ("is livre, which no training site annotates; they annotate liver, spleen",),
        {"spec.evaluation": {"largestComponent": ["spleen", "livre"]}},
    ),
    "Central with several sites": Case(
        acceptance.POOLED_DATA_REQUIRED,
        "spec.sites",
        ("lists 2 sites, but Central trains at one site", "one SegVizSite that lists all data sets"),
        {"spec.algorithm.name": "Central"},
    ),
    "Central with one data set": Case(
        acceptance.POOLED_DATA_REQUIRED,
        "spec.sites[0].siteRef",
        ('"basel/liver" lists one data set, but CentralMarginal pools several',),
        {"spec.algorithm.name": "CentralMarginal", "spec.sites[1]": REMOVED},
    ),
}

WINDOW = {"spec.dataSets[0].window": [-57, 164]}
POOL = [
    {"name": "livers", "layout": "MSD", "organs": {"liver": [1]}},
    {"name": "spleens", "layout": "MSD", "organs": {"spleen": [1]}},
]

ACCEPTED: dict[str, tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]] = {
    "as it is": ({}, {}),
    "with an external site": (EVALUATED, {}),
    "heads alone, without BatchNorm at home": (
        {**EVALUATED, "spec.algorithm.name": "FedAvg"},
        {"basel/liver": {"spec.release": "Heads"}},
    ),
    "a window of its own where they are allowed": (
        {"spec.preprocessing.intensity": {"method": "Window", "window": [-200, 304], "siteWindows": True}},
        {"basel/liver": WINDOW},
    ),
    "a left kidney that is mirrored from above alone": (
        {"spec.training": {"augmentation": "Custom", "transforms": {"mirroring": {"axes": ["S"]}}}},
        {"basel/liver": {"spec.dataSets[0].organs": {"kidney-left": [2]}}},
    ),
    "left and right mirrored where no organ is one of a pair": (
        {"spec.training": {"augmentation": "Custom", "transforms": {"mirroring": {"axes": ["R"]}}}},
        {},
    ),
    "Central, one site and two data sets": (
        {**EVALUATED, "spec.algorithm.name": "Central", "spec.sites[1]": REMOVED},
        {"basel/liver": {"spec.dataSets": POOL, "spec.release": "Heads"}},
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
        accept(_federation(case.federation), _sites(case.sites), case.past)
    there = [each for each in refusal.value.problems if (each.reason, each.path) == (case.reason, case.path)]
    told = [str(each) for each in there]
    assert any(all(words in text for words in case.says) for text in told), str(refusal.value)
    assert all(text.startswith(f"{case.subject}: ") for text in told)


@pytest.mark.parametrize(("federation", "sites"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_federation_that_fits_is_accepted(
    federation: Mapping[str, Any], sites: Mapping[str, Mapping[str, Any]]
):
    accept(_federation(federation), _sites(sites))


OWNERS_CHOICES = {
    "what is released": {"spec.release": "Heads"},
    "how a bad case is met": {"spec.onBadCase": "Skip"},
    "what leaves as scores": {"spec.scores": "PerCase"},
    "whether it rests": {"spec.suspend": True},
    "where the volume is": {"spec.volume": {"hostPath": {"path": "/moved"}}},
}


@pytest.mark.parametrize("change", OWNERS_CHOICES.values(), ids=OWNERS_CHOICES)
def test_an_owner_may_change_it_at_any_time(change: Mapping[str, Any]):
    accept(_federation({}), _sites({"bern/spleen": change}), _past("basel", "bern"))


def test_a_site_that_has_delivered_nothing_may_be_mended():
    accept(_federation({}), _sites({"bern/spleen": {"spec.dataSets[0].background": [7]}}), _past("basel"))


def test_under_one_head_a_site_may_leave_and_one_with_known_organs_may_join():
    marginal, liver = {"spec.objective": "Marginal"}, {"spec.dataSets[0].organs": {"liver": [1]}}
    accept(_federation(marginal), _sites({"bern/spleen": liver}), _past("basel"))


def test_a_head_of_its_own_may_come_at_any_time():
    accept(_federation({}), _sites({}), _past("basel", organs=("liver",)))


def test_all_may_be_replaced_before_the_first_model_is_there():
    accept(_federation({"spec.sites[0]": REMOVED}), _sites({}), _past("basel"))


def test_a_site_that_trains_may_leave_where_another_one_stays():
    accept(_federation({"spec.sites[0]": REMOVED}), _sites({}), _past(carriers=("basel", "bern")))


def test_an_owners_no_holds_where_nobody_is_left_by_it():
    accepted = accept(
        _federation({}),
        _sites({key: {"spec.allowedFederations": []} for key in ("basel/liver", "bern/spleen")}),
        _past("basel", "bern", carriers=("basel", "bern")),
    )
    assert accepted.withdrawn == ("basel", "bern")


def test_a_site_that_is_away_is_not_taken_out_by_an_edit():
    past = _past(carriers=("basel",))
    accepted = accept(_federation({}), _sites({}), past, absent=frozenset({"basel"}))
    assert list(accepted.members) == ["bern"]


WITHDRAWN = {"spec.allowedFederations": [], "spec.split": {"train": 80, "validation": 10, "test": 10}}


def test_withdrawn_consent_removes_the_site_whatever_else_has_changed_in_it():
    federation = _federation({**EVALUATED, "spec.participation.minSites": 2})
    accepted = accept(federation, _sites({"bern/spleen": WITHDRAWN}), _past("basel", "bern"))
    assert accepted.withdrawn == ("bern",)
    assert list(accepted.everyone) == ["basel", "chur"]
    assert [member.alias for member in accepted.federation.spec.sites] == ["basel"]


def test_withdrawn_consent_removes_an_external_site():
    accepted = accept(_federation(EVALUATED), _sites({"chur/abdomen": WITHDRAWN}), _past("basel", "bern"))
    assert (accepted.withdrawn, accepted.federation.spec.evaluation.sites) == (("chur",), ())


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
    named = {**vars(acceptance), **vars(consenting), **vars(organs)}
    reasons = {value for name, value in named.items() if name.isupper() and isinstance(value, str)}
    assert reasons == {case.reason for case in REFUSED.values()}
