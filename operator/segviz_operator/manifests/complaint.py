"""What a schema's error means to the author of the manifest: what is wrong, where, and what to do."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from jsonschema import ValidationError

from segviz_operator.manifests import moved
from segviz_operator.manifests.defaulting import Json, Schema
from segviz_operator.manifests.problem import Problem, nearest, show

_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}


@dataclass(frozen=True)
class Fault:
    """An error of jsonschema's, with the types it has here."""

    keyword: str
    path: tuple[str | int, ...]
    value: Json
    """What the keyword was applied to; for a missing, unknown or repeated entry, what should hold it."""
    schema: Schema
    """That the value should match."""
    detail: str

    @property
    def keys(self) -> list[str]:
        keys: list[str] = self.schema.get("x-kubernetes-list-map-keys", [])
        return keys

    @property
    def depth(self) -> int:
        """How much deeper than the value the path goes."""
        if self.keyword in ("required", "unknown"):
            return 1
        if self.keyword == "x-kubernetes-list-type":
            return 2 if self.keys else 1
        return 0

    @property
    def meaning(self) -> str:
        said = str(self.schema.get("description", ""))
        return said and f"Meaning: {said}"


def explain(error: ValidationError, root: Schema, subject: str) -> Problem:
    schema = cast(Schema, error.schema)
    fault = Fault(str(error.validator), tuple(error.absolute_path), error.instance, schema, error.message)
    what, fix = _EXPLANATIONS[fault.keyword](fault, root)
    # A word that is none of the choices is a typo; anything else is what the field once took.
    if fault.keyword == "unknown" or (fault.keyword == "enum" and not isinstance(fault.value, str)):
        fix = moved.NOW.get(join(fault.path), fix)
    shown = "" if fault.keyword in ("required", "unknown", "type") else show(_found(fault))
    return Problem(subject, join(fault.path), what, fix, shown)


def join(parts: Iterable[str | int]) -> str:
    """spec.sites[2].alias"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def _found(fault: Fault) -> Json:
    """The value at the path."""
    value = fault.value
    for part in fault.path[len(fault.path) - fault.depth :]:
        value = value[part]
    return value


def _wrong_type(fault: Fault, _: Schema) -> tuple[str, str]:
    value, wanted = fault.value, fault.detail
    what = f"is {_describe(value)}, not {_TYPES[wanted]}"
    if isinstance(value, bool) and wanted == "string":
        return what, "YAML reads yes, no, on, off, true and false as booleans: put the word in quotes."
    if isinstance(value, int | float) and wanted == "string":
        return what, "Put it in quotes."
    if isinstance(value, str) and wanted in ("integer", "number", "boolean"):
        return what, f"Write {_TYPES[wanted]}, without quotes. {fault.meaning}".rstrip()
    if value is None:
        return what, f"Give {_TYPES[wanted]}, or leave it out."
    return what, f"Write {_TYPES[wanted]}. {fault.meaning}".rstrip()


def _neither(fault: Fault, _: Schema) -> tuple[str, str]:
    """An int-or-string: a quantity that is neither."""
    what = f"is {_describe(fault.value)}, not a whole number or text"
    if isinstance(fault.value, float):
        return (
            what,
            f'Put it in quotes, as "{fault.value:g}" or "{fault.value * 1000:g}m". {fault.meaning}'.rstrip(),
        )
    return what, f"Write a whole number, or text in quotes. {fault.meaning}".rstrip()


def _describe(value: object) -> str:
    match value:
        case None:
            return "empty"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f"the text {show(value)}"
        case _:
            return show(value)


def _missing(fault: Fault, _: Schema) -> tuple[str, str]:
    name = str(fault.path[-1])
    about = fault.schema["properties"][name].get("description", "")
    others = [each for each in fault.value if each not in fault.schema["properties"]]
    typo = nearest(name, others)
    return "is missing", f"Rename {typo}." if typo else f"Add it: {about}"


def _unknown(fault: Fault, root: Schema) -> tuple[str, str]:
    name = str(fault.path[-1])
    known = fault.schema["properties"]
    elsewhere = [path for path in _paths_of(name, root) if not path.startswith("status")]
    if guess := nearest(name, known):
        return "is an unknown field", f"Did you mean {guess}?"
    if elsewhere:
        return "is in the wrong place", f"It belongs at {' or '.join(elsewhere)}."
    return "is an unknown field", f"Fields here: {', '.join(sorted(known))}."


def _paths_of(name: str, schema: Schema, path: str = "") -> Iterator[str]:
    for each, part in schema.get("properties", {}).items():
        deeper = f"{path}.{each}".lstrip(".")
        if each == name:
            yield deeper
        yield from _paths_of(name, part, deeper)
        yield from _paths_of(name, part.get("items", {}), f"{deeper}[]")


def _not_a_choice(fault: Fault, _: Schema) -> tuple[str, str]:
    choices = [str(each) for each in fault.schema["enum"]]
    guess = nearest(str(fault.value), choices)
    listed = f"Choose {choices[0]}." if len(choices) == 1 else f"Choose one of {', '.join(choices)}."
    if isinstance(fault.value, bool):
        return "is not a valid choice", f"YAML reads yes, no, on and off as booleans. {listed}"
    return "is not a valid choice", f"Did you mean {guess}? {listed}" if guess else listed


def _too_small(fault: Fault, _: Schema) -> tuple[str, str]:
    above = "more than" if fault.schema.get("exclusiveMinimum") else "at least"
    return "is too small", f"Give {above} {fault.schema['minimum']}. {fault.meaning}"


def _too_large(fault: Fault, _: Schema) -> tuple[str, str]:
    below = "less than" if fault.schema.get("exclusiveMaximum") else "at most"
    return "is too large", f"Give {below} {fault.schema['maximum']}. {fault.meaning}"


def _mismatch(fault: Fault, _: Schema) -> tuple[str, str]:
    return "has the wrong form", f"{fault.meaning} It must match {fault.detail}.".lstrip()


def _count(fault: Fault, _: Schema) -> tuple[str, str]:
    keyword = fault.keyword
    one, several = {"Length": ("character", "characters")}.get(keyword[3:], ("entry", "entries"))
    unit = one if len(fault.value) == 1 else several
    bound = f"at {'least' if keyword.startswith('min') else 'most'} {fault.schema[keyword]}"
    low, high = fault.schema.get(f"min{keyword[3:]}"), fault.schema.get(f"max{keyword[3:]}")
    exact = f"exactly {low}" if low == high else bound
    return f"has {len(fault.value)} {unit}", f"Give {exact}. {fault.meaning}"


def _repeated(fault: Fault, _: Schema) -> tuple[str, str]:
    what = f"is already used by {join(fault.path[: -fault.depth])}[{fault.detail}]"
    if fault.keys == ["alias"]:
        return what, "Give each site its own alias."
    return what, f"Give each entry its own {' and '.join(fault.keys)}." if fault.keys else "Write it once."


Explanation = Callable[[Fault, Schema], tuple[str, str]]
_EXPLANATIONS: dict[str, Explanation] = {
    "type": _wrong_type,
    "anyOf": _neither,
    "required": _missing,
    "unknown": _unknown,
    "enum": _not_a_choice,
    "minimum": _too_small,
    "maximum": _too_large,
    "pattern": _mismatch,
    "minItems": _count,
    "maxItems": _count,
    "minLength": _count,
    "maxLength": _count,
    "minProperties": _count,
    "maxProperties": _count,
    "x-kubernetes-list-type": _repeated,
}
