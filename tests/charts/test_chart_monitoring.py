"""What the charts give to Prometheus and Grafana, part by part, each on or off by its value."""

import json
from typing import Any

import pytest
import yaml

from builders.rendered import POLICY, Object, Refused, Release, Values, of_kind, render

PARTS: dict[str, tuple[Values, set[str]]] = {
    "nothing": ({}, set()),
    "a service": ({"service": {"enabled": True}}, {"Service"}),
    "the operator": ({"serviceMonitor": {"enabled": True}}, {"Service", "ServiceMonitor"}),
    "aggregators": ({"podMonitor": {"enabled": True}}, {"PodMonitor"}),
    "alerts": ({"rules": {"enabled": True}}, {"PrometheusRule"}),
}
MONITORS = ("Service", "ServiceMonitor", "PodMonitor", "PrometheusRule")


def monitored(**monitoring: Any) -> list[Object]:
    values: Values = {"networkPolicy": POLICY, "monitoring": monitoring}
    return render(Release("segviz-operator", "segviz", "segviz-system", values))


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_there_when_it_is_asked_for(part: str) -> None:
    values, kinds = PARTS[part]
    objects = monitored(**values)
    assert {each["kind"] for each in objects if each["kind"] in MONITORS} == kinds
    assert not [each for each in of_kind(objects, "ConfigMap") if "dashboard" in each["metadata"]["name"]]


def test_additional_labels_are_put_on() -> None:
    release = {"release": "kube-prometheus-stack"}
    objects = monitored(
        serviceMonitor={"enabled": True, "additionalLabels": release},
        podMonitor={"enabled": True, "additionalLabels": release},
        rules={"enabled": True, "additionalLabels": release},
    )
    for kind in MONITORS[1:]:
        (found,) = of_kind(objects, kind)
        assert found["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_a_service_monitor_finds_the_service_and_the_service_the_pod() -> None:
    objects = monitored(serviceMonitor={"enabled": True})
    (service,), (monitor,) = of_kind(objects, "Service"), of_kind(objects, "ServiceMonitor")
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"] == "metrics"
    ports = [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert service["spec"]["ports"][0]["targetPort"] in ports


def test_annotations_are_the_other_way() -> None:
    (deployment,) = of_kind(monitored(annotations=True), "Deployment")
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    (deployment,) = of_kind(monitored(), "Deployment")
    assert "prometheus.io/scrape" not in deployment["spec"]["template"]["metadata"]["annotations"]


def test_dashboards_are_whole_and_the_sidecar_finds_them() -> None:
    objects = monitored(dashboards={"enabled": True, "namespace": "grafana"}, runbooks="https://x.example/r")
    boards = [each for each in of_kind(objects, "ConfigMap") if "dashboard" in each["metadata"]["name"]]
    assert len(boards) == 2
    for board in boards:
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert board["metadata"]["namespace"] == "grafana"
        (text,) = board["data"].values()
        assert json.loads(text)["panels"]
        assert "https://x.example/r/" in text
        assert "github.com" not in text
        # A ConfigMap applied by kubectl must fit an annotation of this size too.
        assert len(yaml.safe_dump(board)) < 262_144


def test_the_rules_keep_their_templates_and_link_to_ones_own_runbooks() -> None:
    (rules,) = of_kind(monitored(rules={"enabled": True}, runbooks="https://x.example/r"), "PrometheusRule")
    alerts = rules["spec"]["groups"][0]["rules"]
    assert len(alerts) >= 9
    # What concerns the operator has no federation, site or number to name.
    named = [alert for alert in alerts if not alert["alert"].startswith("SegVizOperator")]
    assert len(named) == len(alerts) - 2
    assert all("{{ $" in alert["annotations"]["summary"] for alert in named)
    assert all(a["annotations"]["runbook_url"].startswith("https://x.example/r/") for a in alerts)


def test_a_value_that_there_is_not_is_refused() -> None:
    with pytest.raises(Refused, match="serviceMonitors"):
        monitored(serviceMonitors={"enabled": True})
