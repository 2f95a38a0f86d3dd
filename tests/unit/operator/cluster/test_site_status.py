"""What a site's owner is told in the site's own status."""

from datetime import UTC, datetime
from typing import Any

from builders.small_specs import site_spec
from segviz_exchange.contract.choices import ImagePullPolicy
from segviz_exchange.contract.site_spec import ClaimSource, FederationRef, State, TrainerPod
from segviz_operator.cluster.status.site_status import build_site_status
from segviz_operator.manifests.manifest import Site

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
POD = TrainerPod(ImagePullPolicy.IF_NOT_PRESENT, image="registry.example/trainer")
SPEC = site_spec(
    ("liver",),
    trainer=POD,
    state=State(ClaimSource("state")),
    allowed_federations=(FederationRef("radiology", "abdomen"),),
)
BASEL = Site("basel", "hospital", SPEC, {"metadata": {"generation": 3}})


def truths(**shown: Any) -> dict[str, tuple[str, str]]:
    """Of a site that a federation shows like this."""
    member = {"alias": "basel", "siteRef": {"namespace": "hospital", "name": "basel"}}
    federation = {
        "metadata": {"namespace": "radiology", "name": "abdomen"},
        "spec": {"sites": [member]},
        "status": {"sites": [{"alias": "basel", **shown}]},
    }
    found = build_site_status(BASEL, [federation], {}, NOON)
    return {each["type"]: (each["status"], each["reason"]) for each in found["conditions"]}


def test_a_site_that_trains_is_ready():
    assert truths(phase="Training") == {
        "Ready": ("True", "TakesPart"),
        "Accepted": ("True", "Fits"),
        "Degraded": ("False", "TakesPart"),
    }


def test_a_site_whose_pod_is_missing_is_not():
    found = truths(phase="Starting", reason="PodMissing", message="exceeded quota")
    assert (found["Ready"], found["Degraded"]) == (("False", "PodMissing"), ("True", "PodMissing"))
