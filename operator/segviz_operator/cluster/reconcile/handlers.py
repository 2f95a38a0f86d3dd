# mypy: disable-error-code="arg-type"
# kopf's protocols list every keyword that it passes; a handler names those that it wants.
"""kopf's part: watch, keep the indices, and say which federation something has happened to.

No change handlers, timers or daemons: kopf keeps neither finalizers nor annotations on anybody's objects,
and a turn is level-based, woken by events and by its own clock (controller.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import kopf

from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.membership.provenance import homes_of, is_in_place
from segviz_operator.cluster.objects.jobs import JobSeen, job_seen
from segviz_operator.cluster.reconcile.controller import Controller, Indices, site_references
from segviz_operator.manifests.manifest import Site, from_server
from segviz_operator.manifests.problem import InvalidManifest

FEDERATION = ("segviz.dev", "v1alpha1", "segvizfederations")
SITE = ("segviz.dev", "v1alpha1", "segvizsites")
JOB = ("batch", "v1", "jobs")
OURS = {names.MANAGED_BY: names.MANAGER}


def register(registry: kopf.OperatorRegistry) -> None:
    """The handlers, in a registry of their own: a test's operator shares none with another's."""
    _register_process(registry)
    _register_indices(registry)
    _register_events(registry)


def _register_process(registry: kopf.OperatorRegistry) -> None:
    @kopf.on.startup(registry=registry)
    async def start(
        settings: kopf.OperatorSettings,
        memo: Controller,
        federations: Any,  # noqa: ANN401 - kopf's indices by name
        users: Any,  # noqa: ANN401
        sites: Any,  # noqa: ANN401
        jobs: Any,  # noqa: ANN401
        **_: object,
    ) -> None:
        settings.posting.enabled = False
        settings.peering.standalone = True
        # CRDs and namespaces are there before the operator is; to watch them would take more rights.
        settings.scanning.disabled = True
        settings.watching.label_selectors["batch", "jobs"] = f"{names.MANAGED_BY}={names.MANAGER}"
        memo.start(Indices(federations, users, sites, jobs))

    @kopf.on.cleanup(registry=registry)
    async def stop(memo: Controller, **_: object) -> None:
        await memo.stop()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 - passed on
        return kopf.login_with_kubeconfig(**kwargs) or kopf.login_with_service_account(**kwargs)


def _register_indices(registry: kopf.OperatorRegistry) -> None:
    @kopf.index(*FEDERATION, registry=registry, id="federations")
    def federations(body: kopf.Body, uid: str, **_: object) -> dict[str, dict[str, Any]]:
        return {uid: {**body, "metadata": _without_fields(body["metadata"])}}

    @kopf.index(*FEDERATION, registry=registry, id="users")
    def users(body: kopf.Body, uid: str, **_: object) -> dict[tuple[str, str], str]:
        return dict.fromkeys(site_references(body), uid)

    @kopf.index(*SITE, registry=registry, id="sites")
    def sites(
        body: kopf.Body, namespace: str, name: str, **_: object
    ) -> dict[tuple[str, str], Site | InvalidManifest]:
        try:
            return {(namespace, name): site_seen(body)}
        except InvalidManifest as error:
            # Of what an owner has just said, the part that can be read is not enough; nor is what it was.
            return {(namespace, name): error}

    @kopf.index(*JOB, labels=OURS, registry=registry, id="jobs")
    def jobs(body: kopf.Body, labels: kopf.Labels, **_: object) -> dict[str, JobSeen]:
        seen = job_seen(body)
        uid = labels.get(names.FEDERATION_UID)
        return {} if seen is None or uid is None else {uid: seen}


def _register_events(registry: kopf.OperatorRegistry) -> None:
    @kopf.on.event(*FEDERATION, registry=registry)
    async def on_federation(body: kopf.Body, type: str | None, memo: Controller, **_: object) -> None:
        memo.federation_changed(body, type == "DELETED")

    @kopf.on.event(*SITE, registry=registry)
    async def on_site(
        body: kopf.Body,
        type: str | None,
        namespace: str,
        name: str,
        memo: Controller,
        users: Any,  # noqa: ANN401
        **_: object,
    ) -> None:
        memo.site_changed(body, list(users.get((namespace, name), ())), type == "DELETED")

    @kopf.on.event(*JOB, labels=OURS, registry=registry)
    async def on_job(
        body: kopf.Body,
        type: str | None,
        memo: Controller,
        federations: Any,  # noqa: ANN401
        **_: object,
    ) -> None:
        uid = (body["metadata"].get("labels") or {}).get(names.FEDERATION_UID)
        raw, seen = next(iter(federations.get(uid, ())), None), job_seen(body)
        if raw is not None and seen is not None and is_in_place(seen, Subject.of(raw), homes_of(raw)):
            memo.job_changed(uid, type == "DELETED" or seen.finished_at is not None)


def site_seen(body: Mapping[str, Any]) -> Site:
    """A site as it is kept: typed, and of the object itself what is asked for, which is a quarter of it.

    Raises InvalidManifest.
    """
    found = from_server(dict(body))
    assert isinstance(found, Site)
    raw = {"metadata": _without_fields(body["metadata"]), "status": body.get("status") or {}}
    return replace(found, raw=raw)


def _without_fields(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name != "managedFields"}
