"""The CRDs on a real API server: it takes them, and answers each manifest as `segviz validate` does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from builders.mistakes import IMMUTABLE, MISTAKES, MUTABLE, VARIANTS, Mistake, build_federation, changed
from integration.apiserver import ApiServer
from segviz_operator.manifests.manifest import load, parse
from segviz_operator.manifests.problem import InvalidManifest

kubernetes = pytest.importorskip("kubernetes")
from kubernetes.client import ApiException, ApiextensionsV1Api, CustomObjectsApi  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN = ("segviz.dev", "v1alpha1", "default")
PLURALS = {"SegVizFederation": "segvizfederations", "SegVizSite": "segvizsites"}


@pytest.fixture(scope="session")
def objects(apiserver: ApiServer, crds: None) -> Any:
    """Custom objects, once both CRDs are served."""
    return CustomObjectsApi(apiserver.client())


def _create(objects: Any, manifest: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    created: dict[str, Any] = objects.create_namespaced_custom_object(
        *OWN, PLURALS[manifest["kind"]], manifest, field_validation="Strict", **options
    )
    return created


@pytest.mark.usefixtures("objects")
def test_the_crds_are_structural_and_established(apiserver: ApiServer):
    for each in ApiextensionsV1Api(apiserver.client()).list_custom_resource_definition().items:
        conditions = {condition.type: condition.status for condition in each.status.conditions}
        assert (conditions["Established"], conditions["NamesAccepted"]) == ("True", "True")
        assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_what_validate_refuses_the_server_refuses(objects: Any, mistake: Mistake):
    with pytest.raises(InvalidManifest):
        parse(mistake.manifest)
    with pytest.raises(ApiException) as refusal:
        _create(objects, mistake.manifest, dry_run="All")
    assert refusal.value.status in (400, 422), refusal.value.body


@pytest.mark.parametrize("manifest", VARIANTS.values(), ids=VARIANTS)
def test_what_validate_takes_the_server_takes_with_the_same_defaults(objects: Any, manifest: dict[str, Any]):
    created = _create(objects, manifest, dry_run="All")
    assert created["spec"] == parse(manifest).raw["spec"]


@pytest.mark.parametrize("example", sorted(path.parent.name for path in EXAMPLES.glob("*/federation.yaml")))
def test_the_server_takes_the_examples(objects: Any, example: str):
    manifests = load([EXAMPLES / example])
    for each in (*manifests.federations, *manifests.sites):
        assert _create(objects, each.raw, dry_run="All")["spec"] == each.raw["spec"]


@pytest.fixture
def federation(objects: Any, request: pytest.FixtureRequest) -> Any:
    """A new federation that has begun to train."""
    name = f"f{abs(hash(request.node.name))}"
    _create(objects, changed(build_federation(), {"metadata.name": name}))
    place = (*OWN, PLURALS["SegVizFederation"], name)
    yield _tell(objects, place, phase="Training", currentRound=0)
    objects.delete_namespaced_custom_object(*place)


def _replace(objects: Any, manifest: Mapping[str, Any]) -> dict[str, Any]:
    place = (*OWN, PLURALS["SegVizFederation"], manifest["metadata"]["name"])
    replaced: dict[str, Any] = objects.replace_namespaced_custom_object(*place, manifest)
    return replaced


SAYS = {"store": "the bucket cannot change"}
"""Where part of a field may change."""


@pytest.mark.parametrize(("field", "value"), IMMUTABLE.items(), ids=IMMUTABLE)
def test_a_running_federation_keeps_its_field(
    objects: Any, federation: dict[str, Any], field: str, value: Any
):
    new = changed(federation, {f"spec.{field}": value})
    with pytest.raises(InvalidManifest, match=SAYS.get(field, f"{field} cannot (change|become)")):
        parse(new, old=federation)
    with pytest.raises(ApiException, match=SAYS.get(field, f"{field} cannot (change|become)")):
        _replace(objects, new)


@pytest.mark.parametrize(("field", "value"), MUTABLE.items(), ids=MUTABLE)
def test_a_running_federation_may_change_its_field(
    objects: Any, federation: dict[str, Any], field: str, value: Any
):
    new = changed(federation, {f"spec.{field}": value})
    parse(new, old=federation)
    assert _replace(objects, new)["metadata"]["generation"] == 2


def test_a_new_order_of_external_sites_is_no_change(objects: Any, federation: dict[str, Any]):
    entries = [{"alias": alias, "siteRef": {"namespace": "x", "name": alias}} for alias in ("chur", "zug")]
    place = (*OWN, PLURALS["SegVizFederation"], federation["metadata"]["name"])
    _tell(objects, place, phase="Pending", currentRound=None)
    _replace(objects, changed(_read(objects, place), {"spec.evaluation.sites": entries}))
    _tell(objects, place, phase="Training", currentRound=0)
    old = _read(objects, place)
    new = changed(old, {"spec.evaluation.sites": entries[::-1]})
    parse(new, old=old)
    _replace(objects, new)


def test_what_was_made_suspended_may_be_edited_and_what_is_complete_not(
    objects: Any, federation: dict[str, Any]
):
    place = (*OWN, PLURALS["SegVizFederation"], federation["metadata"]["name"])
    suspended = _tell(objects, place, phase="Suspended", currentRound=None)
    edited = _replace(objects, changed(suspended, {"spec.rounds": 7}))
    assert edited["spec"]["rounds"] == 7
    complete = _tell(objects, place, phase="Complete", currentRound=7)
    with pytest.raises(ApiException, match="rounds cannot change once training has begun"):
        _replace(objects, changed(complete, {"spec.rounds": 8}))
    kept = _replace(objects, changed(complete, {"spec.deletionPolicy": "Delete"}))
    assert _replace(objects, changed(kept, {"spec.deletionPolicy": "Retain"}))["metadata"]["generation"] == 4


def _tell(objects: Any, place: tuple[str, ...], **status: Any) -> dict[str, Any]:
    told: dict[str, Any] = objects.patch_namespaced_custom_object_status(*place, {"status": status})
    return told


def _read(objects: Any, place: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = objects.get_namespaced_custom_object(*place)
    return found


def test_a_full_status_is_kept(objects: Any, federation: dict[str, Any]):
    status = {
        "observedGeneration": 1,
        "phase": "Evaluating",
        "conditions": [
            {
                "type": "Accepted",
                "status": "True",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-11-23T16:00:00Z",
                "reason": "Accepted",
                "message": "",
            }
        ],
        "currentRound": 3,
        "bestRound": 2,
        "sitesReady": "2/2",
        "readySites": 2,
        "totalSites": 2,
        "meanDice": "0.912",
        "sharing": [{"group": "representation", "owners": ["basel", "bern"], "sharedBy": ["basel", "bern"]}],
        "sites": [{"alias": "basel", "ready": True, "round": 3, "epoch": 1, "dice": {"liver": "0.93"}}],
        "evaluation": [{"alias": "chur", "dice": {"liver": "0.91"}}],
    }
    place = (*OWN, PLURALS["SegVizFederation"], federation["metadata"]["name"])
    patched = objects.patch_namespaced_custom_object_status(*place, {"status": status})
    assert patched["status"] == status
    parse(patched)
