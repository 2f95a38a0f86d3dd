"""A status cut to what its CRD allows: one text too long, and the API server refuses all of it, for ever."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from segviz_operator.manifests.defaulting import Schema
from segviz_operator.manifests.schema import schemas

_MOST_INTEGER = 2**63 - 1
_MOST_KEY = 253
MOST_BYTES = 512 << 10
"""Of the whole. etcd takes 1.5 MiB of an object, and the CRD's bounds together allow more."""
_LEAST_NEEDED = ("preflight", "dice", "message")
"""Of what is told of a site, in the order in which it goes where all sites together say too much."""
_SHORT = 256
_DROPPED = object()


def within_bounds(kind: str, status: Mapping[str, Any]) -> dict[str, Any]:
    """`status` as the CRD of `kind` takes it.

    Texts are cut, lists and maps end early, numbers stay in range. What is no choice, or an entry
    without a field that it needs, is left out.
    """
    fitted: dict[str, Any] = _fit(status, _schema(kind))
    if len(msgspec.json.encode(fitted.get("sharing"))) > MOST_BYTES // 2:
        # Hundreds of sites that share a hundred heads: the manifests say the same, and nobody reads it here.
        del fitted["sharing"]
    sites = [*fitted.get("sites", ()), *fitted.get("evaluation", ())]
    for name in _LEAST_NEEDED:
        if _size_bytes(fitted) <= MOST_BYTES:
            return fitted
        for site in sites:
            site.pop(name, None)
    for condition in fitted.get("conditions", ()):
        if len(condition.get("message", "")) > _SHORT:
            condition["message"] = f"{condition['message'][: _SHORT - 1]}…"
    return fitted


def _size_bytes(status: Mapping[str, Any]) -> int:
    return len(msgspec.json.encode(status))


@cache
def _schema(kind: str) -> Schema:
    schema: Schema = schemas()[kind]["properties"]["status"]
    return schema


def _fit(value: Any, schema: Schema) -> Any:  # noqa: ANN401 - JSON
    match value:
        case bool() | None:
            return value
        case str():
            if "enum" in schema and value not in schema["enum"]:
                return _DROPPED
            most = schema.get("maxLength", len(value))
            return value if len(value) <= most else f"{value[: most - 1]}…"
        case int():
            return min(max(value, schema.get("minimum", value)), _MOST_INTEGER)
        case list() | tuple():
            entries = [_fit(each, schema.get("items", {})) for each in value]
            return [each for each in entries if each is not _DROPPED][: schema.get("maxItems")]
        case Mapping():
            return _fit_map(value, schema)
    return value


def _fit_map(value: Mapping[str, Any], schema: Schema) -> Any:  # noqa: ANN401 - JSON
    known: Mapping[str, Schema] = schema.get("properties") or {}
    others: Schema = schema.get("additionalProperties") or {}
    fitted = {
        name: each
        for name, given in value.items()
        if len(name) <= _MOST_KEY and (each := _fit(given, known.get(name, others))) is not _DROPPED
    }
    if any(name not in fitted for name in schema.get("required", ())):
        return _DROPPED
    return dict(list(fitted.items())[: schema.get("maxProperties")])
