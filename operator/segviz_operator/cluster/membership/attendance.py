"""Which of the sites that a federation names can take part in a cluster, and why the others cannot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec import UnsetType

from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.manifests.acceptance import SITE_NOT_FOUND
from segviz_operator.manifests.consenting import NOT_CONSENTED, No, no_of
from segviz_operator.manifests.manifest import Federation, Site
from segviz_operator.manifests.problem import InvalidManifest

SITE_INCOMPLETE = "SiteIncomplete"
"""A site's manifest lacks what a Pod needs in a cluster: its image, or the claim for its state."""


@dataclass(frozen=True)
class Absence:
    """Why a site takes no part."""

    reason: str
    message: str


@dataclass(frozen=True)
class Attendance:
    hosts: Mapping[str, Host]
    """By alias; remote sites too, whose namespace holds no more than a Secret."""
    sites: Mapping[str, Site]
    """The same, as their owners describe them."""
    absent: Mapping[str, Absence]

    @property
    def remote(self) -> frozenset[str]:
        return frozenset(alias for alias, host in self.hosts.items() if host.spec.remote)

    def allows_start(self, federation: Federation) -> bool:
        """Before it has begun, a federation waits until enough of its sites are there.

        A `minSites` above their number can never be met; acceptance says so, once all are there.
        """
        spec = federation.spec
        there = sum(1 for member in spec.sites if member.alias in self.hosts)
        return there >= min(spec.participation.quorum(len(spec.sites)), len(spec.sites))

    def why_not(self) -> tuple[str, str]:
        """A reason and a message for who waits for the absent."""
        said = "; ".join(f"{alias}: {each.message}" for alias, each in sorted(self.absent.items()))
        return next(iter(self.absent.values())).reason, said


Consents = Callable[[str], Owner | None]
"""The consent in a namespace, if it is given there."""


def attend(
    federation: Federation,
    sites_there: Mapping[tuple[str, str], Site | InvalidManifest],
    consent_in: Consents,
) -> Attendance:
    """Args:
    sites_there: by namespace and name.
    """
    spec = federation.spec
    hosts: dict[str, Host] = {}
    sites: dict[str, Site] = {}
    absent: dict[str, Absence] = {}
    for member in sorted((*spec.sites, *spec.evaluation.sites), key=lambda each: each.alias):
        ref = member.site_ref
        site = sites_there.get((ref.namespace, ref.name))
        if site is None:
            absent[member.alias] = Absence(
                SITE_NOT_FOUND,
                f"SegVizSite {ref.namespace}/{ref.name} does not exist, or the operator may not read it. "
                "Correct siteRef, or let the site's owner install it. `segviz doctor` tells which.",
            )
        elif isinstance(site, InvalidManifest):
            absent[member.alias] = Absence(site.problems[0].reason, str(site))
        elif (no := no_of(site, federation)) is not None:
            absent[member.alias] = _kept_out(site, no)
        elif (consent := consent_in(ref.namespace)) is None:
            absent[member.alias] = _not_consented(
                site, f"the namespace {ref.namespace} has no RoleBinding that lets {federation.key} in"
            )
        elif missing := missing_fields(site):
            absent[member.alias] = Absence(
                SITE_INCOMPLETE, f"{site} lacks {missing}, which a cluster needs. Its owner can add it."
            )
        else:
            hosts[member.alias] = Host(member.alias, ref.namespace, ref.name, consent, site.spec)
            sites[member.alias] = site
    return Attendance(hosts, sites, absent)


def _kept_out(site: Site, no: No) -> Absence:
    if no.reason == NOT_CONSENTED:
        return _not_consented(site, no.why)
    return Absence(no.reason, f"{site.key} does not take part in this: {no.why}. {no.fix}")


def _not_consented(site: Site, why: str) -> Absence:
    return Absence(NOT_CONSENTED, f"{site.key} has not consented: {why}. Its owner can add it.")


def missing_fields(site: Site) -> str:
    """Names of fields that a cluster needs and the site leaves out; empty where there are none."""
    if site.spec.remote:
        return ""
    signing = site.spec.signing
    key = True if isinstance(signing, UnsetType) else signing.secret_ref
    wanted = {
        "spec.trainer.image": site.spec.trainer.image,
        "spec.state": site.spec.state,
        "spec.signing.secretRef": key,
    }
    return " and ".join(name for name, value in wanted.items() if value is None)
