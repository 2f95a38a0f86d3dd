"""Many sites, put so that a person finds what matters: the worst first, how many do what, and by name."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from segviz_operator.plan.phase import BROKEN, BUSY, HELD_UP, SitePhase

MANY = 24
"""More than so many sites are more than a screen."""
_WORST_FIRST = (
    *reversed(BROKEN),
    "Absent",  # only a cluster's status knows it
    SitePhase.SILENT,
    *(phase for phase in HELD_UP if phase != SitePhase.SILENT),
    *(SitePhase.STARTING, SitePhase.WAITING, SitePhase.PREPARING),
    *BUSY,
    SitePhase.DONE,
)
_RANKS = {str(phase): rank for rank, phase in enumerate(_WORST_FIRST)}

_T = TypeVar("_T")


def worst_first(sites: Sequence[_T], phase: Callable[[_T], str]) -> list[_T]:
    """Few stay in their order, in which a person finds them again."""
    if len(sites) <= MANY:
        return list(sites)
    return sorted(sites, key=lambda site: _RANKS.get(phase(site), -1))


def counted(phases: Iterable[str]) -> str:
    """Such as "2 Failed, 1 Silent, 253 Training", the worst first."""
    found = Counter(phases)
    return ", ".join(f"{found[each]} {each}" for each in sorted(found, key=lambda each: _RANKS.get(each, -1)))


def named(alias: str, pattern: str) -> bool:
    """Whether a search finds a site: by a part of its alias, or by a pattern with * and ?."""
    wanted = pattern.lower()
    return fnmatchcase(alias.lower(), wanted if set(wanted) & set("*?[") else f"*{wanted}*")
