"""What is wrong with a JSON file, in words for whoever has to mend it."""

import re

import msgspec

_PLACE = re.compile(r" - at `\$\.?(?P<path>.*)`$")
_ABSENT = re.compile(r"Object missing required field `(?P<name>[^`]+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[^`]+)`")
_TYPES = re.compile(r"Expected `(?P<wanted>[^`]+)`, got `(?P<found>[^`]+)`")
_EMPTY = re.compile(r"Expected `\w+` of length >= 1\b")
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def malformation(error: msgspec.DecodeError | UnicodeDecodeError) -> str:
    """Quotes no value: the file may hold credentials."""
    if isinstance(error, msgspec.ValidationError):
        return _misfit(str(error))
    if "truncated" in str(error):
        return "it is empty or cut short"
    return "it is not JSON"


def _misfit(text: str) -> str:
    place = _PLACE.search(text)
    path = place["path"] if place else ""
    if found := _ABSENT.match(text):
        return f"the field {_below(path, found['name'])} is missing"
    if found := _UNKNOWN.match(text):
        return f"the field {_below(path, found['name'])} is unknown"
    subject = f"the field {path}" if path else "the whole"
    if found := _TYPES.match(text):
        return f"{subject} must be {_in_words(found['wanted'])}, not {_in_words(found['found'])}"
    if _EMPTY.match(text):
        return f"{subject} is empty"
    return f"{subject} has a value that is not allowed"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _in_words(types: str) -> str:
    return " or ".join(_WORDS.get(each, each) for each in types.split(" | "))
