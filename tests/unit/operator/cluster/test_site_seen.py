"""What is kept of a site in memory: thousands of them are watched."""

from typing import Any

from segviz_operator.cluster.reconcile.handlers import site_seen
from segviz_operator.manifests.manifest import parse

BODY: dict[str, Any] = {
    "apiVersion": "segviz.dev/v1alpha1",
    "kind": "SegVizSite",
    "metadata": {"namespace": "basel", "name": "ct"},
    "spec": {
        "volume": {"hostPath": {"path": "/ct"}},
        "dataSets": [{"name": "ct", "layout": "MSD", "organs": {"liver": [1]}}],
    },
}
SERVED: dict[str, Any] = {
    # As the API server has it: with its defaults.
    **parse(BODY).raw,
    "metadata": {
        "namespace": "basel",
        "name": "ct",
        "uid": "uid-1",
        "generation": 3,
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
    },
    "status": {"observedGeneration": 2},
}


def test_it_is_read_whole_and_kept_without_what_nobody_asks_for():
    site = site_seen(SERVED)
    assert (str(site), [each.name for each in site.spec.data_sets]) == ("SegVizSite basel/ct", ["ct"])
    assert site.raw["status"] == {"observedGeneration": 2}
    assert site.raw["metadata"] == {"namespace": "basel", "name": "ct", "uid": "uid-1", "generation": 3}
    assert "spec" not in site.raw


def test_a_site_without_a_status_has_an_empty_one():
    assert site_seen({name: value for name, value in SERVED.items() if name != "status"}).raw["status"] == {}
