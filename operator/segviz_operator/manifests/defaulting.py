"""Structural defaulting, as Kubernetes' API server does it (apiextensions-apiserver, schema/defaulting)."""

import copy
from typing import Any

Json = Any
"""A value as JSON or YAML has it: what it is, is only known once it is checked."""
Schema = dict[str, Any]


def with_defaults(value: Json, schema: Schema) -> Json:
    """A copy in which every absent field has its default.

    Null counts as absent, unless the field is nullable; without a default it is dropped. A default is filled
    in only where its parent is there, so parents have a default of their own.
    """
    if isinstance(value, dict):
        return _object(value, schema)
    if isinstance(value, list):
        items = schema.get("items", {})
        return [with_defaults(each, items) for each in value]
    return copy.deepcopy(value)


def _object(value: dict[str, Any], schema: Schema) -> dict[str, Any]:
    properties: dict[str, Schema] = schema.get("properties", {})
    others: Schema = schema.get("additionalProperties", {})
    present = {
        name: each
        for name, each in value.items()
        if each is not None or _keeps_null(properties.get(name, others))
    }
    absent = {
        name: part["default"]
        for name, part in properties.items()
        if "default" in part and name not in present
    }
    return {
        name: with_defaults(each, properties.get(name, others)) for name, each in (present | absent).items()
    }


def _keeps_null(schema: Schema) -> bool:
    # A field that no schema knows is left as it is, for the check that follows to find.
    return not schema or bool(schema.get("nullable"))
