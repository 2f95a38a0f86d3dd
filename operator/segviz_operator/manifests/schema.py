"""Manifests against the CRDs: the same files, and the same answers, as the API server's."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator, ValidationError
from jsonschema.validators import extend

from segviz_operator.manifests import complaint, moved
from segviz_operator.manifests.defaulting import Json, Schema, with_defaults
from segviz_operator.manifests.problem import Problem
from segviz_operator.manifests.rules import Node, broken_rules

API_VERSION = "segviz.dev/v1alpha1"
FEDERATION = "SegVizFederation"
SITE = "SegVizSite"
STUDY = "SegVizStudy"


@dataclass(frozen=True)
class Checked:
    """An object with its defaults, and all that is wrong with it."""

    raw: dict[str, Any]
    problems: tuple[Problem, ...]


def check(kind: str, raw: Mapping[str, Any], subject: str, old: Mapping[str, Any] | None = None) -> Checked:
    """Checks an object, and where `old` is given also whether it may be changed into this one."""
    schema = schemas()[kind]
    defaulted: dict[str, Any] = with_defaults(dict(raw), schema)
    errors = sorted(_Validator(schema).iter_errors(defaulted), key=lambda error: list(map(str, error.path)))
    problems = [complaint.explain(error, schema, subject) for error in errors]
    problems += moved.meaningful_nulls(raw, subject)
    faulty = frozenset(problem.path for problem in problems)
    before = None if old is None else with_defaults(dict(old), schema)
    problems += broken_rules(Node(defaulted, schema, old=before), subject, faulty)
    return Checked(defaulted, tuple(problems))


@cache
def schemas() -> Mapping[str, Schema]:
    """openAPIV3Schema by kind."""
    # The C loader reads our own, trusted file ten times as fast; not every build of PyYAML has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definitions = [yaml.load(path.read_bytes(), loader) for path in crd_files()]
    local = [yaml.load(path.read_bytes(), loader) for path in sorted((_folder() / "local").glob("*.yaml"))]
    return {
        each["spec"]["names"]["kind"]: each["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for each in definitions
    } | {each["kind"]: each["openAPIV3Schema"] for each in local}


def crd_files() -> tuple[Path, ...]:
    """What a cluster knows. `crds/local` has the schemas of what only this machine reads."""
    return tuple(sorted(_folder().glob("segviz.dev_*.yaml")))


def _folder() -> Path:
    """The CRDs of a wheel lie in the package, those of a checkout at its top."""
    packaged = Path(str(files("segviz_operator") / "crds"))
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "crds"


Errors = Iterator[ValidationError]


def _type(validator: Draft4Validator, wanted: str, value: Json, schema: Schema) -> Errors:
    # `enum` says more about a value that is none of its choices than `type` would.
    if "enum" in schema or (value is None and schema.get("nullable")):
        return
    if not validator.is_type(value, wanted):
        yield ValidationError(wanted)


def _required(validator: Draft4Validator, names: list[str], value: Json, schema: Schema) -> Errors:
    if validator.is_type(value, "object"):
        for name in names:
            if name not in value:
                yield ValidationError("", path=(name,))


def _properties(validator: Draft4Validator, properties: Schema, value: Json, schema: Schema) -> Errors:
    if not validator.is_type(value, "object"):
        return
    for name, each in value.items():
        if name in properties:
            yield from validator.descend(each, properties[name], path=name, schema_path=name)
        elif "additionalProperties" not in schema:
            yield ValidationError("", path=(name,), validator="unknown")


def _pattern(validator: Draft4Validator, pattern: str, value: Json, schema: Schema) -> Errors:
    # Python's $ also matches before a final newline; the API server's (RE2) does not.
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield ValidationError(pattern)


def _list_type(validator: Draft4Validator, list_type: str, value: Json, schema: Schema) -> Errors:
    if not isinstance(value, list) or list_type == "atomic":
        return
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: dict[str, int] = {}
    for index, item in enumerate(value):
        if keys and not (isinstance(item, dict) and all(key in item for key in keys)):
            continue
        identity = repr([item[key] for key in keys] if keys else item)
        if identity in seen:
            yield ValidationError(str(seen[identity]), path=(index, *keys[:1]))
        seen.setdefault(identity, index)


# Draft 4 is the one whose exclusiveMinimum is a boolean beside minimum, as in OpenAPI 3.0.
_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft4Validator,
    {
        "type": _type,
        "required": _required,
        "properties": _properties,
        "pattern": _pattern,
        "x-kubernetes-list-type": _list_type,
    },
)
