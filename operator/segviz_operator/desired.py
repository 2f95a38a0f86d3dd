"""What people want, from the manifests that a local run was given; read again whenever they are edited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segviz_exchange.errors import Refusal
from segviz_operator.acceptance import Accepted, accept
from segviz_operator.manifest import Federation, load, parse
from segviz_operator.phase import FederationPhase
from segviz_operator.plan import Desired

Signature = tuple[tuple[str, int, int], ...]


def desired_of(accepted: Accepted) -> Desired:
    everyone = {**accepted.members, **accepted.evaluators}
    return Desired(
        spec=accepted.federation.spec,
        organs={alias: site.spec.organs for alias, site in accepted.members.items()},
        paused=frozenset(alias for alias, site in everyone.items() if site.spec.suspend),
    )


@dataclass(frozen=True)
class ManifestFiles:
    """The files and folders named on the command line."""

    paths: tuple[Path, ...]

    def signature(self) -> Signature:
        """Changes when a file does. A file that is being replaced just now simply is not there."""
        found = []
        for path in self.paths:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            for file in files:
                try:
                    status = file.stat()
                except FileNotFoundError:
                    continue
                found.append((str(file), status.st_mtime_ns, status.st_size))
        return tuple(found)

    def read(self, old: Mapping[str, Any] | None) -> Accepted:
        """The one federation in the files and its sites.

        Args:
            old: the federation's manifest that is in force, where training has begun under it.

        Raises:
            Refusal: a manifest is invalid, or changes what may not change any more.
        """
        manifests = load(self.paths)
        federation = _only(manifests.federations, self.paths)
        if old is not None:
            # The same rules as the API server's; they look at the phase to know that training has begun.
            before = {**old, "status": {"phase": str(FederationPhase.TRAINING)}}
            parse(federation.raw, str(federation), old=before)
        return accept(federation, manifests.sites)


def _only(federations: Sequence[Federation], paths: Sequence[Path]) -> Federation:
    files = ", ".join(map(str, paths))
    if not federations:
        raise Refusal(f"{files}: no SegVizFederation in there. Name its manifest, and those of its sites.")
    if len(federations) > 1:
        names = ", ".join(federation.key for federation in federations)
        raise Refusal(f"{files}: {len(federations)} federations in there ({names}). Run one at a time.")
    return federations[0]
