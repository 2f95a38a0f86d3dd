"""What is wrong with a manifest, said so that its author can put it right."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from segviz_exchange.process.errors import Refusal

INVALID_FIELD = "InvalidField"
"""A manifest does not match its schema, or one of the schema's rules."""

_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Problem:
    subject: str
    """The object, `SegVizFederation radiology/abdomen`, or the file, where no object could be read."""
    path: str
    """The field, `spec.sites[2].alias`; empty for the whole."""
    what: str
    fix: str
    value: str = ""
    """As JSON, if it helps."""
    reason: str = INVALID_FIELD

    def __str__(self) -> str:
        where = " ".join(part for part in (self.path, self.value) if part)
        # A rule of the schema is a sentence of its own; everything else goes on from the field.
        gap = "" if self.what.startswith(":") or not where else " "
        return f"{self.subject}: {where}{gap}{self.what}. {self.fix}".rstrip()


class InvalidManifest(Refusal):
    """All that is wrong, one problem a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None
