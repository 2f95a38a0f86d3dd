"""The Kubernetes API as the operator uses it: plain objects in and out, faults told apart by status code.

Synchronous, so never called on the event loop. The official client authenticates and keeps the connections;
its typed models are left aside, for they cost more memory than all that the operator knows.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError

from segviz_operator.cluster.api.names import MANAGER

Object = dict[str, Any]

TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Kind:
    api: str
    plural: str

    def path(self, namespace: str, name: str | None = None, subresource: str | None = None) -> str:
        """`namespace` is empty for what is in none."""
        where = ["namespaces", namespace] if namespace else []
        parts = [self.api, *where, self.plural, *filter(None, (name, subresource))]
        return "/" + "/".join(quote(part, safe="/:") for part in parts)


JOBS = Kind("apis/batch/v1", "jobs")
PODS = Kind("api/v1", "pods")
SECRETS = Kind("api/v1", "secrets")
CONFIG_MAPS = Kind("api/v1", "configmaps")
EVENTS = Kind("api/v1", "events")
ROLE_BINDINGS = Kind("apis/rbac.authorization.k8s.io/v1", "rolebindings")
FEDERATIONS = Kind("apis/segviz.dev/v1alpha1", "segvizfederations")
SITES = Kind("apis/segviz.dev/v1alpha1", "segvizsites")


class ClusterError(Exception):
    """The API server said no, or said nothing."""


class Away(ClusterError):
    """No answer, or one that asks to come again."""


class Missing(ClusterError):
    """There is no such object, or no such namespace."""


class Conflicting(ClusterError):
    """Somebody else has changed or made the object."""


class Forbidden(ClusterError):
    """The operator's service account may not do this."""


class Invalid(ClusterError):
    """The API server does not take the object: a person must mend what it was made of."""


class Cluster:
    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        try:
            return self._call("GET", kind.path(namespace, name))
        except Missing:
            return None

    def served(self, api: str) -> frozenset[str]:
        """Plurals of a group's version; none where the API server does not know it."""
        try:
            return frozenset(each["name"] for each in self._call("GET", f"/{api}")["resources"])
        except Missing:
            return frozenset()

    def list(self, kind: Kind, namespace: str, **selectors: str) -> list[Object]:
        """Selectors are `labelSelector` and `fieldSelector`; `limit` says how many at most."""
        items: list[Object] = self._call("GET", kind.path(namespace), query=selectors)["items"]
        return items

    def apply(self, kind: Kind, wanted: Mapping[str, Any]) -> Object:
        """Server-side: the object is there afterwards as `wanted`, whoever made it first."""
        metadata = wanted["metadata"]
        return self._call(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": MANAGER, "force": "true"},
            body=wanted,
            content_type="application/apply-patch+yaml",
        )

    def create(self, kind: Kind, wanted: Mapping[str, Any]) -> Object:
        path = kind.path(wanted["metadata"]["namespace"])
        return self._call("POST", path, query={"fieldManager": MANAGER}, body=wanted)

    def merge(
        self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any], subresource: str | None = None
    ) -> Object:
        """Raises Conflicting where the patch names a resourceVersion that is no longer the newest."""
        return self._call(
            "PATCH",
            kind.path(namespace, name, subresource),
            query={"fieldManager": MANAGER},
            body=patch,
            content_type="application/merge-patch+json",
        )

    def delete(
        self, kind: Kind, namespace: str, name: str, propagation: str = "Background", uid: str | None = None
    ) -> None:
        """Nothing happens where there is none, or another one under that name."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self._call("DELETE", kind.path(namespace, name), body=options)
        except (Missing, Conflicting):
            return

    def logs(self, namespace: str, pod: str, **query: str) -> str:
        return self._ask("GET", PODS.path(namespace, pod, "log"), query, None, "application/json").decode(
            errors="replace"
        )

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        answer: Object = json.loads(self._ask(method, path, query or {}, body, content_type))
        return answer

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content_type: str,
    ) -> bytes:
        try:
            response = self._client.call_api(
                *self._client.param_serialize(
                    method,
                    path,
                    query_params=list(query.items()),
                    header_params={"Accept": "application/json", "Content-Type": content_type},
                    body=body,
                    auth_settings=["BearerToken"],
                ),
                _request_timeout=TIMEOUT_SECONDS,
            )
            data: bytes = response.read()  # type: ignore[no-untyped-call]
        except ApiException as error:
            raise _meaning(error, f"{method} {path}") from error
        except (HTTPError, OSError) as error:
            raise Away(f"{method} {path}: {error}") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _error(response.status, data, f"{method} {path}")
        return data


def _meaning(error: ApiException, what: str) -> ClusterError:
    body = error.body.encode() if isinstance(error.body, str) else error.body or b""
    return _error(int(error.status or 0), body, what)


def _error(status: int, body: bytes, what: str) -> ClusterError:
    try:
        message = json.loads(body).get("message", "")
    except (ValueError, AttributeError):
        message = body.decode(errors="replace")[:200]
    said = f"{what}: {status}: {message}"
    known: dict[int, type[ClusterError]] = {
        HTTPStatus.NOT_FOUND: Missing,
        HTTPStatus.CONFLICT: Conflicting,
        HTTPStatus.FORBIDDEN: Forbidden,
        HTTPStatus.BAD_REQUEST: Invalid,
        HTTPStatus.UNPROCESSABLE_ENTITY: Invalid,
    }
    return known.get(status, Away)(said)
