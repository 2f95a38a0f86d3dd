"""JSON schemas for kubeconform, from an API server's own OpenAPI and from our CRDs: nothing is fetched."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

LOCATION = "{{ .Group }}_{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json"
_DEFINITIONS = "#/definitions/"
# Both are written as strings or as numbers, which OpenAPI 2 cannot say.
_QUANTITIES = (
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
)


def write_core_schemas(openapi: Mapping[str, Any], folder: Path) -> None:
    """One file for each kind, with all that it refers to; unknown fields are refused."""
    definitions = {name: _strict(schema) for name, schema in openapi["definitions"].items()}
    for name in _QUANTITIES:
        definitions[name] = {"type": ["string", "number"]}
    for name, schema in openapi["definitions"].items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            needed = {each: definitions[each] for each in sorted(_reachable(definitions, name))}
            whole = {**definitions[name], "definitions": needed}
            _write(folder, kind["group"], kind["kind"], kind["version"], whole)


def write_crd_schema(crd: Mapping[str, Any], folder: Path) -> None:
    spec = crd["spec"]
    for version in spec["versions"]:
        schema = _strict(version["schema"]["openAPIV3Schema"])
        # The server knows what metadata is; OpenAPI's exclusiveMinimum is draft 4's.
        schema["properties"]["metadata"] = {"type": "object"}
        schema["$schema"] = "http://json-schema.org/draft-04/schema#"
        _write(folder, spec["group"], spec["names"]["kind"], version["name"], schema)


def _write(folder: Path, group: str, kind: str, version: str, schema: Schema) -> None:
    # kubeconform takes what stands before the slash of an apiVersion for the group.
    (folder / f"{group or version}_{kind.lower()}_{version}.json").write_text(
        json.dumps(schema), encoding="utf-8"
    )


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # A field may be called `properties` or `nullable`, as those of a schema within a CRD are.
    strict = {
        key: {name: _strict(each) for name, each in value.items()} if key == "properties" else _strict(value)
        for key, value in schema.items()
    }
    if "properties" in strict and not strict.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    if strict.get("nullable"):
        strict["type"] = [strict["type"], "null"]
    return strict


def _reachable(definitions: Mapping[str, Schema], name: str) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += _references(definitions[current])
    return seen


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for each in schema:
            yield from _references(each)
    elif isinstance(schema, dict):
        for key, each in schema.items():
            if key == "$ref" and isinstance(each, str):
                yield each.removeprefix(_DEFINITIONS)
            else:
                yield from _references(each)
