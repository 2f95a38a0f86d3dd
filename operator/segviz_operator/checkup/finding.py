"""One thing that was looked at."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    """Whoever asked may not know, or the answer is not to be had from here."""


@dataclass(frozen=True)
class Finding:
    verdict: Verdict
    what: str
    remedy: str = ""
    """What to do about it: a command where one will do."""


def good(what: str) -> Finding:
    return Finding(Verdict.GOOD, what)


def bad(what: str, remedy: str) -> Finding:
    return Finding(Verdict.BAD, what, remedy)


def unknown(what: str, remedy: str = "") -> Finding:
    return Finding(Verdict.UNKNOWN, what, remedy)
