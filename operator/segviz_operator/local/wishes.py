"""What a person wants of a run: the command line, and the manifests as they were last accepted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_operator.local.files import ManifestFiles
from segviz_operator.local.identity import Identity
from segviz_operator.local.invitations import check_reachable
from segviz_operator.local.programs import Place
from segviz_operator.local.volumes import Volumes
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.progress.facts import FederationRecords


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    files: ManifestFiles
    volumes: Volumes
    store: str | None
    poll_seconds: float
    metrics_port: int | None = None
    """Where it serves its metrics and its page, and from which port on each process serves its own."""


@dataclass(frozen=True)
class Wishes:
    """Accepted manifests, and where each site's images lie."""

    accepted: Accepted
    roots: Mapping[str, Path]

    @property
    def specs(self) -> dict[str, SiteSpec]:
        return {alias: site.spec for alias, site in self.accepted.everyone.items()}

    def place(self, alias: str) -> Place | None:
        site = self.accepted.everyone.get(alias)
        here = site is not None and not site.spec.remote
        return Place(alias, site.spec, self.roots[alias]) if site is not None and here else None


def first_wishes(request: Request, bucket: Path) -> Wishes:
    """For a folder in which nothing has run yet. Raises Refusal."""
    return _wishes(request, request.files.read(None), (), request.store or str(bucket))


def next_wishes(
    request: Request, identity: Identity, records: FederationRecords, running: Iterable[str] = ()
) -> Wishes:
    """As the manifests are now; what the run has been built upon may not change.

    Args:
        running: aliases of sites at work, whose data go into the federation now.

    Raises:
        Refusal: a manifest is invalid, or changes what may not change any more.
    """
    delivered = [alias for alias, site in records.sites.items() if site.has_delivered]
    first = records.first_control
    organs = first.organs if first else ()
    past = identity.past((*delivered, *running), organs, records.carriers)
    return _wishes(request, request.files.read(past), identity.sites, request.store or identity.store)


def _wishes(request: Request, accepted: Accepted, known: Iterable[str], store: str) -> Wishes:
    request.volumes.check_aliases((*accepted.everyone, *known))
    check_reachable(store, accepted.everyone)
    return Wishes(accepted, request.volumes.roots(accepted))
