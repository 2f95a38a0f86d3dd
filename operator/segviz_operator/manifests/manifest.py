"""Manifests as typed values, from files or from the API server."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.contract.spec import FederationSpec, StudySpec
from segviz_operator.manifests.documents import read_documents
from segviz_operator.manifests.problem import InvalidManifest, Problem, nearest, show
from segviz_operator.manifests.schema import API_VERSION, FEDERATION, SITE, STUDY, check

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_KINDS = [FEDERATION, SITE, STUDY]
_METADATA = frozenset(
    {
        *("annotations", "finalizers", "generateName", "labels", "name", "namespace", "ownerReferences"),
        *("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation"),
        *("managedFields", "resourceVersion", "selfLink", "uid"),
    }
)


@dataclass(frozen=True)
class Federation:
    name: str
    namespace: str
    spec: FederationSpec
    raw: Mapping[str, Any]
    """The whole object with its defaults."""

    def __str__(self) -> str:
        return f"{FEDERATION} {self.key}"

    @property
    def uid(self) -> str | None:
        """None where it comes from a file: only an API server gives it one."""
        found: str | None = (self.raw.get("metadata") or {}).get("uid")
        return found

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Site:
    name: str
    namespace: str
    spec: SiteSpec
    raw: Mapping[str, Any]
    """The whole object with its defaults; of a watched one, metadata and status alone."""

    def __str__(self) -> str:
        return f"{SITE} {self.key}"

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def allows(self, federation: str, uid: str | None = None) -> bool:
        """Whether its owner has consented to a federation, by namespace/name. In a cluster, a RoleBinding
        has to say the same (attendance.py).

        Args:
            uid: where it is known; an owner may consent to this one alone, and to none that is made anew.
        """
        return any(
            each.key == federation and (each.uid is None or uid is None or each.uid == uid)
            for each in self.spec.allowed_federations
        )


@dataclass(frozen=True)
class Study:
    """Read on this machine alone; no kind of a cluster."""

    name: str
    namespace: str
    spec: StudySpec
    raw: Mapping[str, Any]
    """The whole object with its defaults."""

    def __str__(self) -> str:
        return f"{STUDY} {self.key}"

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


Manifest = Federation | Site | Study


@dataclass(frozen=True)
class Manifests:
    """What some files say. `foreign` names their objects that are of no concern here."""

    federations: tuple[Federation, ...] = ()
    sites: tuple[Site, ...] = ()
    studies: tuple[Study, ...] = ()
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """Good manifests and all problems of the others."""

    manifests: Manifests
    problems: tuple[Problem, ...]


def load(paths: Iterable[Path]) -> Manifests:
    """Raises InvalidManifest with every problem of every file."""
    reading = read(paths)
    if reading.problems:
        raise InvalidManifest(reading.problems)
    return reading.manifests


def read(paths: Iterable[Path]) -> Reading:
    """Files, or folders of .yaml and .yml files."""
    found: list[tuple[str, Manifest]] = []
    foreign: list[str] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            for source, raw in _objects(path):
                if _is_foreign(raw):
                    foreign.append(_subject(raw, source))
                    continue
                try:
                    found.append((source, parse(raw, source)))
                except InvalidManifest as error:
                    problems += error.problems
        except InvalidManifest as error:
            problems += error.problems
    objects = [each for _, each in found]
    federations = tuple(each for each in objects if isinstance(each, Federation))
    sites = tuple(each for each in objects if isinstance(each, Site))
    studies = tuple(each for each in objects if isinstance(each, Study))
    return Reading(Manifests(federations, sites, studies, tuple(foreign)), (*problems, *_twice(found)))


def parse(raw: Mapping[str, Any], source: str = "manifest", old: Mapping[str, Any] | None = None) -> Manifest:
    """A typed object; `old` is what it replaces, if anything. Raises InvalidManifest with every problem."""
    subject = _subject(raw, source)
    if problems := tuple(_type_problems(raw, subject)):
        raise InvalidManifest(problems)
    kind = str(raw["kind"])
    checked = check(kind, raw, subject, old)
    if problems := (*_metadata_problems(checked.raw, subject), *checked.problems):
        raise InvalidManifest(problems)
    metadata, spec = checked.raw["metadata"], checked.raw["spec"]
    name, namespace = metadata["name"], metadata.get("namespace", "default")
    if kind == FEDERATION:
        return Federation(name, namespace, msgspec.convert(spec, FederationSpec), checked.raw)
    if kind == STUDY:
        return Study(name, namespace, msgspec.convert(spec, StudySpec), checked.raw)
    return Site(name, namespace, msgspec.convert(spec, SiteSpec), checked.raw)


def from_server(raw: Mapping[str, Any]) -> Federation | Site:
    """An object of the API server, which has checked it and filled in its defaults already.

    Raises:
        InvalidManifest: it was stored under another version of the schema.
    """
    metadata, kind = raw["metadata"], raw["kind"]
    name, namespace = metadata["name"], metadata["namespace"]
    try:
        if kind == FEDERATION:
            return Federation(name, namespace, msgspec.convert(raw["spec"], FederationSpec), raw)
        return Site(name, namespace, msgspec.convert(raw["spec"], SiteSpec), raw)
    except msgspec.ValidationError as error:
        what = f"does not fit this operator's schema: {error}"
        fix = "Update the CRDs to the operator's version, and apply the manifest again."
        raise InvalidManifest([Problem(f"{kind} {namespace}/{name}", "spec", what, fix)]) from error


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object with words that say where it is."""
    if path.is_dir():
        inside = sorted(each for each in path.iterdir() if each.suffix in (".yaml", ".yml"))
        if not inside:
            fix = "Name a folder with .yaml files, or a file."
            raise InvalidManifest([Problem(str(path), "", "has no .yaml file in it", fix)])
        for each in inside:
            yield from _objects(each)
        return
    documents = read_documents(path)
    if not documents:
        raise InvalidManifest([Problem(str(path), "", "is empty", f"Write a {FEDERATION} or {SITE}.")])
    for number, document in enumerate(documents, 1):
        source = f"{path}, document {number}" if len(documents) > 1 else str(path)
        if not isinstance(document, dict):
            fix = "Start it with apiVersion and kind."
            raise InvalidManifest([Problem(source, "", "is not an object", fix)])
        # `kubectl get -o yaml` wraps what it prints in a List.
        items = document.get("items") if document.get("kind") == "List" else [document]
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            fix = "Write a list of objects, each with apiVersion and kind."
            raise InvalidManifest([Problem(source, "items", "is not a list of objects", fix, show(items))])
        yield from ((source, item) for item in items)


def _is_foreign(raw: Mapping[str, Any]) -> bool:
    """A Namespace or a claim may well stand beside ours; anything that looks like ours must be right."""
    version, kind = raw.get("apiVersion"), raw.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        return False
    group = version.partition("/")[0].lower()
    return not nearest(group, ["segviz.dev"]) and not nearest(kind, _KINDS)


def _subject(raw: Mapping[str, Any], source: str) -> str:
    metadata = raw.get("metadata")
    kind, name = raw.get("kind"), metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(kind, str) or not isinstance(name, str):
        return source
    return f"{kind} {metadata.get('namespace') or 'default'}/{name}"


def _type_problems(raw: Mapping[str, Any], subject: str) -> Iterator[Problem]:
    for field, choices in (("apiVersion", [API_VERSION]), ("kind", _KINDS)):
        if field not in raw:
            yield Problem(subject, field, "is missing", f"Write {field}: {' or '.join(choices)}.")
        elif raw[field] not in choices:
            guess = nearest(str(raw[field]), choices) or " or ".join(choices)
            yield Problem(subject, field, "is unknown", f"Write {guess}.", show(raw[field]))


def _metadata_problems(raw: Mapping[str, Any], subject: str) -> Iterator[Problem]:
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("name") is None:
        yield Problem(subject, "metadata.name", "is missing", "Name the object.")
        return
    for field in sorted(set(metadata) - set(_METADATA)):
        guess = nearest(field, _METADATA)
        fix = f"Did you mean {guess}?" if guess else "Remove it, or make it a label."
        yield Problem(subject, f"metadata.{field}", "is an unknown field", fix)
    for field, pattern, most in (("name", _SUBDOMAIN, 253), ("namespace", _LABEL, 63)):
        value = metadata.get(field)
        if value is not None and not _is_name(value, pattern, most):
            dots = ", hyphens and dots" if field == "name" else " and hyphens"
            fix = f"Use at most {most} lower-case letters, digits{dots}, with a letter or digit at both ends."
            yield Problem(subject, f"metadata.{field}", "is not a valid name in Kubernetes", fix, show(value))
    for field in ("labels", "annotations"):
        entries = metadata.get(field) or {}
        if not isinstance(entries, dict) or not all(isinstance(each, str) for each in entries.values()):
            yield Problem(subject, f"metadata.{field}", "must map text to text", "Put the values in quotes.")


def _is_name(value: object, pattern: re.Pattern[str], most: int) -> bool:
    return isinstance(value, str) and len(value) <= most and pattern.fullmatch(value) is not None


def _twice(found: Iterable[tuple[str, Manifest]]) -> Iterator[Problem]:
    sources: dict[str, str] = {}
    for source, manifest in found:
        subject = str(manifest)
        if subject not in sources:
            sources[subject] = source
        elif sources[subject] == source:
            yield Problem(
                subject, "", f"is read twice from {source}", "Name each file once, and each object in it."
            )
        else:
            where = f"{sources[subject]} and {source}"
            yield Problem(
                subject, "metadata.name", f"is the same in {where}", "Rename or remove one of the two."
            )
