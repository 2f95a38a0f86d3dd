"""The CEL rules of a CRD (`x-kubernetes-validations`), evaluated here as the API server evaluates them."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cel_expr_python import cel

from segviz_operator.manifests.defaulting import Json, Schema
from segviz_operator.manifests.problem import Problem, show

_TRANSITION = re.compile(r"\boldSelf\b")


@dataclass(frozen=True)
class Node:
    """A value, the schema it has to match, where it is, and what was there before (None: nothing)."""

    value: Json
    schema: Schema
    path: str = ""
    old: Json = None

    def children(self) -> Iterator["Node"]:
        if isinstance(self.value, dict):
            yield from self._fields()
        elif isinstance(self.value, list):
            yield from self._items()

    def _fields(self) -> Iterator["Node"]:
        properties, others = self.schema.get("properties", {}), self.schema.get("additionalProperties")
        old = self.old if isinstance(self.old, dict) else {}
        for name, value in self.value.items():
            schema = properties.get(name, others)
            if schema is not None and value is not None:
                yield Node(value, schema, f"{self.path}.{name}".lstrip("."), old.get(name))

    def _items(self) -> Iterator["Node"]:
        # Items of other lists have no identity, so no rule may compare them with what was there before.
        keys = self.schema.get("x-kubernetes-list-map-keys")
        before = {_identity(each, keys): each for each in self.old or ()} if keys else {}
        for index, value in enumerate(self.value):
            old = before.get(_identity(value, keys)) if keys else None
            yield Node(value, self.schema["items"], f"{self.path}[{index}]", old)


def broken_rules(root: Node, subject: str, faulty: frozenset[str]) -> Iterator[Problem]:
    """Every rule that does not hold. A rule cannot be asked about a value that has a `faulty` path in it."""
    if root.path in faulty:
        return  # Its type may be another than its schema's.
    if not any(_is_within(path, root.path) for path in faulty):
        for rule in root.schema.get("x-kubernetes-validations", ()):
            yield from _check(rule, root, subject)
    for node in root.children():
        yield from broken_rules(node, subject, faulty)


def _check(rule: dict[str, str], node: Node, subject: str) -> Iterator[Problem]:
    names = {"self": _cel_value(node.value, node.schema)}
    if _TRANSITION.search(rule["rule"]):
        if node.old is None:
            return
        names["oldSelf"] = _cel_value(node.old, node.schema)
    outcome = _program(rule["rule"])(names)
    if outcome is True:
        return
    what, _, fix = rule["message"].partition(". ")
    field = replace(node, path=f"{node.path}{rule.get('fieldPath', '')}".lstrip("."))
    value = _lookup(node.value, rule.get("fieldPath", ""))
    shown = show(value) if isinstance(value, str | int | float | list) else ""
    yield Problem(subject, field.path, f": {what}", fix, shown)


@cache
def _program(rule: str) -> Callable[[dict[str, Any]], object]:
    # Untyped: the API server has checked the types of these very expressions when it took the CRD.
    names = {"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}
    expression = cel.NewEnv(variables=names).compile(rule)
    return lambda values: expression.eval(data=values).value()


def _cel_value(value: Json, schema: Schema) -> Json:
    """As the API server sees it: a number is a double, and the order of a list-map has no meaning."""
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
        return {name: _cel_value(each, properties.get(name, others)) for name, each in value.items()}
    if isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys")
        ordered = sorted(value, key=lambda each: _identity(each, keys)) if keys else value
        return [_cel_value(each, schema.get("items", {})) for each in ordered]
    if schema.get("type") == "number" and value is not None:
        return float(value)
    return value


def _identity(item: Json, keys: list[str]) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in keys) if isinstance(item, dict) else (repr(item),)


def _is_within(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _lookup(value: Json, field_path: str) -> Json:
    for name in field_path.split(".")[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value
