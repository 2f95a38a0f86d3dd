"""Values as people write them: keys left empty, names that look like numbers, addresses with too much."""

from pathlib import Path
from typing import Any

import pytest

from builders.rendered import (
    CHARTS,
    KUBERNETES,
    OPERATOR,
    SITE,
    Object,
    Refused,
    Release,
    Values,
    helm,
    render,
)
from segviz_operator.manifests.documents import read_documents

PLAIN = {"segviz-operator": OPERATOR["plain"], "segviz-site": SITE["plain"]}


def values_of(chart: str) -> Values:
    (values,) = read_documents(CHARTS / chart / "values.yaml")
    return values


def rendered(chart: str, values: Values, name: str = "basel") -> list[Object]:
    return render(Release(chart, name, "clinic", values))


def merged(base: Any, over: Any) -> Any:
    """As Helm merges values, but null stays null."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


# --- null and empty mean left out -------------------------------------------------------------------------

REQUIRED = {
    "segviz-operator": (
        "scope",
        "networkPolicy.store.ports",
        "networkPolicy.apiServer.ports",
        "networkPolicy.dns.ports",
    ),
    "segviz-site": ("networkPolicy.store.ports", "networkPolicy.dns.ports"),
}
"""Without one of these more would be allowed than anybody wrote: said, never taken from a default."""


def nulled(values: Any, required: tuple[str, ...], path: str = "") -> Any:
    """Every value null, but for what is required."""
    if isinstance(values, dict) and any(each.startswith(path) for each in required):
        return {
            key: nulled(value, required, f"{path}{key}.")
            for key, value in values.items()
            if f"{path}{key}" not in required
        }
    return None


@pytest.mark.parametrize("chart", PLAIN)
def test_null_means_left_out_for_all_values_at_once(chart: str) -> None:
    nothing = nulled(values_of(chart), REQUIRED[chart])
    assert rendered(chart, merged(nothing, PLAIN[chart])) == rendered(chart, PLAIN[chart])


@pytest.mark.parametrize("chart", PLAIN)
def test_a_key_with_nothing_below_it_means_left_out(chart: str) -> None:
    empty = {
        key: None
        for key, value in values_of(chart).items()
        if isinstance(value, (dict, list)) and key not in PLAIN[chart]
    }
    assert len(empty) > 5
    assert rendered(chart, {**PLAIN[chart], **empty}) == rendered(chart, PLAIN[chart])


@pytest.mark.parametrize(("chart", "path"), [(chart, path) for chart in PLAIN for path in REQUIRED[chart]])
@pytest.mark.parametrize("value", [None, []], ids=["null", "empty"])
def test_what_is_required_is_refused_by_name(chart: str, path: str, value: object) -> None:
    spoilt: Any = value
    for key in reversed(path.split(".")):
        spoilt = {key: spoilt}
    with pytest.raises(Refused) as refusal:
        rendered(chart, merged(PLAIN[chart], spoilt))
    assert path.rpartition(".")[2] in str(refusal.value)
    assert "nil pointer" not in str(refusal.value)


# --- names that look like something else ------------------------------------------------------------------

NUMBERS = ("12345", "007", "1e3", "1.5", "no", "true", "null")


def read_as_kubectl(chart: str, values: Values, name: str, folder: Path) -> list[Object]:
    arguments = ("template", name, str(CHARTS / chart), "--namespace", "clinic", "--kube-version", KUBERNETES)
    path = folder / "rendered.yaml"
    path.write_text(helm(*arguments, values=values), encoding="utf-8")
    return read_documents(path)


def kinds(value: Any) -> Any:
    """Its shape: which field holds which kind of value."""
    match value:
        case dict():
            return {key: kinds(each) for key, each in value.items()}
        case list():
            return [kinds(each) for each in value]
    return type(value).__name__


def named(chart: str, text: str) -> Values:
    """Values in which every name that a user chooses is `text`."""
    if chart == "segviz-operator":
        return {
            **OPERATOR["plain"],
            "imagePullSecrets": [text],
            "priorityClassName": text,
            "nodeSelector": {"pool": text},
            "podLabels": {"team": text},
            "podAnnotations": {"note": text},
            "serviceAccount": {"name": text, "annotations": {"note": text}},
            "federationNamespaces": [text.replace(".", "-")],
            "image": {"tag": text},
            "aggregator": {"priorityClassName": text, "image": {"tag": text}},
            "trialStore": {
                "enabled": True,
                "image": "store:1",
                "storageClassName": text,
                "size": "1Gi",
                "bucket": "b-1",
            },
        }
    return {
        **SITE["plain"],
        "name": text,
        "data": {"existingClaim": text},
        "state": {"storageClassName": text},
        "storeSecret": text,
        "serviceAccount": {"name": text},
        "operator": {"namespace": text.replace(".", "-"), "serviceAccountName": text},
        "trainer": {
            "imagePullSecrets": [text],
            "nodeSelector": {"gpu": text},
            "priorityClassName": text,
            "runtimeClassName": text,
            "queueName": text,
            "image": {"tag": text},
        },
    }


@pytest.mark.parametrize("text", NUMBERS)
@pytest.mark.parametrize("chart", PLAIN)
def test_a_name_is_text_whatever_it_looks_like(chart: str, text: str, tmp_path: Path) -> None:
    found = read_as_kubectl(chart, named(chart, text), text, tmp_path)
    usual = read_as_kubectl(chart, named(chart, "abc"), "abc", tmp_path)
    # Keys hold names too, such as a NetworkPolicy's matchLabels; here none depends on a value.
    assert [kinds(each) for each in found] == [kinds(each) for each in usual]


# --- addresses --------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, Values, str]] = {
    "a scheme in a registry": (
        "segviz-site", {"trainer": {"image": {"registry": "https://r.example"}}}, "registry",
    ),
    "a scheme in the operator's": (
        "segviz-operator", {"image": {"registry": "http://r.example/"}}, "registry",
    ),
    "an image in a registry": ("segviz-operator", {"image": {"registry": "r.example/a:1/b"}}, "registry"),
    "a blank in a registry": ("segviz-operator", {"image": {"registry": "r.example /m"}}, "registry"),
    "two slashes in a registry": ("segviz-operator", {"image": {"registry": "r.example//m"}}, "registry"),
    "a tag in a repository": ("segviz-operator", {"image": {"repository": "segviz:1"}}, "repository"),
    "capitals in a repository": (
        "segviz-site", {"trainer": {"image": {"repository": "SegViz"}}}, "repository",
    ),
    "a digest as tag": ("segviz-operator", {"image": {"tag": "sha256:0"}}, "tag"),
    "a digest cut short": ("segviz-operator", {"image": {"digest": "sha256:0123"}}, "digest"),
    "a port too high": ("segviz-operator", {"networkPolicy": {"store": {"ports": [70000]}}}, "ports"),
    "a port as text": ("segviz-operator", {"networkPolicy": {"store": {"ports": ["443"]}}}, "ports"),
    "a port of zero": ("segviz-site", {"networkPolicy": {"dns": {"ports": [0]}}}, "ports"),
    "one port, no list": ("segviz-site", {"networkPolicy": {"store": {"ports": 443}}}, "ports"),
    "a bucket in capitals": ("segviz-operator", {"trialStore": {"bucket": "SegViz"}}, "bucket"),
    "a bucket with a path": ("segviz-operator", {"trialStore": {"bucket": "segviz/a"}}, "bucket"),
    "a bucket out of its folder": ("segviz-operator", {"trialStore": {"bucket": ".."}}, "bucket"),
    "a bucket like an address": ("segviz-operator", {"trialStore": {"bucket": "10.0.0.1"}}, "bucket"),
    "a bucket of two letters": ("segviz-operator", {"trialStore": {"bucket": "ab"}}, "bucket"),
    "an address without its width": (
        "segviz-operator", {"networkPolicy": {"store": {"cidrs": ["10.1.2.3"]}}}, "cidrs",
    ),
    "a URL for addresses": (
        "segviz-site", {"networkPolicy": {"store": {"cidrs": ["https://minio:9000"]}}}, "cidrs",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("chart", "values", "told"), REFUSED.values(), ids=REFUSED)
def test_an_address_with_too_much_in_it_is_refused(chart: str, values: Values, told: str) -> None:
    with pytest.raises(Refused, match=told):
        rendered(chart, merged(PLAIN[chart], values))
