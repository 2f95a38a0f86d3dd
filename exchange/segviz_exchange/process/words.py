"""Text of one process that others show: one line of bounded length, whatever is in it."""

import json
import re
import unicodedata

MOST_CHARACTERS = 500
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HARMFUL = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Control characters move a terminal's cursor, those of direction turn a line around, separators break it;
a lone surrogate is no UTF-8."""
_FORMULA = re.compile(r"\s*[=+@\-\uFF1D\uFF0B\uFF20\uFF0D]")


def plain(text: str, most: int = MOST_CHARACTERS) -> str:
    """`text` with spaces for line breaks and tabs, � for what is harmful, … for what is too much."""
    if len(text) > most:
        text = text[: most - 1] + "…"
    return "".join(" " if each in "\n\r\t" else _harmless(each) for each in text)


def for_terminal(text: str) -> str:
    """`text` with � for what is harmful; lines and tabs stay, and nothing is cut."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each in "\n\t" else _harmless(each) for each in text)


def for_json(text: str) -> str:
    """A JSON document that says the same in characters that harm no terminal."""
    return "".join(each if each == "\n" or _is_harmless(each) else json.dumps(each)[1:-1] for each in text)


def for_spreadsheet(value: object) -> object:
    """What a cell of a CSV says, never a formula: a spreadsheet computes what begins with =, +, - or @.

    Numbers are numbers, and stay.
    """
    if isinstance(value, str) and len(value) > 1 and _FORMULA.match(value):
        return f"'{value}"
    return value


def _harmless(character: str) -> str:
    return character if _is_harmless(character) else _REPLACEMENT


def _is_harmless(character: str) -> bool:
    return unicodedata.category(character) not in _HARMFUL
