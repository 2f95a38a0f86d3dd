"""All that is known when a federation is judged, and the questions that the checks ask of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from segviz_exchange.contract.limits import beyond
from segviz_exchange.contract.spec import MemberRef
from segviz_operator.manifests.manifest import Federation, Site
from segviz_operator.manifests.past import Past
from segviz_operator.manifests.problem import Problem, show


@dataclass(frozen=True)
class Case:
    federation: Federation
    sites: Mapping[str, Site]
    """By namespace/name."""
    past: Past | None = None
    absent: frozenset[str] = frozenset()
    """Aliases of sites that are left out, whatever their manifests say."""

    @property
    def members(self) -> tuple["Entry", ...]:
        return self._entries("spec.sites", self.federation.spec.sites)

    @property
    def evaluators(self) -> tuple["Entry", ...]:
        return self._entries("spec.evaluation.sites", self.federation.spec.evaluation.sites)

    @property
    def entries(self) -> tuple["Entry", ...]:
        return (*self.members, *self.evaluators)

    def has_withdrawn(self, entry: "Entry") -> bool:
        once = self.past is not None and entry.key in self.past.consented
        return once and entry.site is not None and not self.has_consented(entry.site)

    def has_consented(self, site: Site) -> bool:
        """Withdrawn is what an owner takes back by any of these words."""
        allowed = site.allows(self.federation.key, self.federation.uid)
        return allowed and not any(beyond(site.spec.limits, self.federation.spec))

    def owners(self, organ: str) -> tuple["Entry", ...]:
        return tuple(each for each in self.members if each.site and organ in each.site.spec.organs)

    def problem(self, reason: str, path: str, what: str, fix: str, value: object = None) -> Problem:
        return Problem(str(self.federation), path, what, fix, "" if value is None else show(value), reason)

    def _entries(self, path: str, members: tuple[MemberRef, ...]) -> tuple["Entry", ...]:
        return tuple(
            Entry(f"{path}[{index}]", member, self.sites.get(_key(member)))
            for index, member in enumerate(members)
        )


@dataclass(frozen=True)
class Entry:
    path: str
    member: MemberRef
    site: Site | None

    @property
    def key(self) -> str:
        return _key(self.member)


def _key(member: MemberRef) -> str:
    return f"{member.site_ref.namespace}/{member.site_ref.name}"
