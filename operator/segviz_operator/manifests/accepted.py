"""A federation whose sites all fit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from segviz_operator.manifests.manifest import Federation, Site


@dataclass(frozen=True)
class Accepted:
    """A federation and the sites behind its aliases, sorted by alias."""

    federation: Federation
    members: Mapping[str, Site]
    evaluators: Mapping[str, Site]
    withdrawn: tuple[str, ...] = ()
    """Aliases that the manifest names, but whose owners have withdrawn their consent; gone from all else."""

    @property
    def everyone(self) -> dict[str, Site]:
        return {**self.members, **self.evaluators}

    def without(self, withdrawn: tuple[str, ...]) -> "Accepted":
        """As if the coordinator had removed these sites."""
        members = {alias: site for alias, site in self.members.items() if alias not in withdrawn}
        evaluators = {alias: site for alias, site in self.evaluators.items() if alias not in withdrawn}
        spec = self.federation.spec
        external = tuple(member for member in spec.evaluation.sites if member.alias in evaluators)
        rest = msgspec.structs.replace(
            spec,
            sites=tuple(member for member in spec.sites if member.alias in members),
            evaluation=msgspec.structs.replace(spec.evaluation, sites=external),
        )
        return Accepted(replace(self.federation, spec=rest), members, evaluators, withdrawn)
