"""`segviz doctor` against a real API server and a real store: each fault is named with what mends it."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.mistakes import build_federation, changed
from builders.rendered import LIVERS, POLICY, STORE, Release
from integration.apiserver import ApiServer
from integration.helm_releases import Helm
from integration.object_stores import Server

kubernetes = pytest.importorskip("kubernetes")
from kubernetes.client import (  # noqa: E402
    ApiextensionsV1Api,
    AppsV1Api,
    CoreV1Api,
    CustomObjectsApi,
    RbacAuthorizationV1Api,
)

PLACE = ("segviz.dev", "v1alpha1")
OPERATOR, FEDERATIONS, SITE = "clinic-operator", "clinic-radiology", "clinic-basel"


@dataclass(frozen=True)
class Clinic:
    apiserver: ApiServer
    admin: Helm
    folder: Path

    @property
    def core(self) -> Any:
        return CoreV1Api(self.apiserver.client())

    def doctor(self, *words: str, kubeconfig: Path | None = None) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", "from segviz_exchange.cli import main; main()", "doctor", *words],
            env={
                "KUBECONFIG": str(kubeconfig or self.admin.kubeconfig),
                "HOME": str(self.folder),
                "COLUMNS": "500",
            },
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    def ask(self, *words: str) -> str:
        """What it says of the federation, in one line a finding."""
        operator = f"{OPERATOR}/segviz-operator"
        return self.doctor("--operator", operator, "-n", FEDERATIONS, "abdomen", *words)[1]


def operator(**values: Any) -> Release:
    given = {"federationNamespaces": [FEDERATIONS], "networkPolicy": POLICY}
    return Release("segviz-operator", "segviz", OPERATOR, given | values)


def basel(*federations: str, **values: Any) -> Release:
    given = {
        "allowedFederations": list(federations),
        "operator": {"namespace": OPERATOR},
        "dataSets": [LIVERS],
        "data": {"existingClaim": "images"},
        "networkPolicy": {"store": STORE},
    }
    return Release("segviz-site", "basel", SITE, given | values)


@pytest.fixture(scope="module")
def clinic(
    apiserver: ApiServer, crds: None, minio: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clinic]:
    """All is well, but no Pod runs here: the claims are bound by hand, and the operator is never ready."""
    folder = tmp_path_factory.mktemp("clinic")
    clinic = Clinic(apiserver, Helm(apiserver.write_kubeconfig(folder / "admin"), folder), folder)
    for name in (OPERATOR, FEDERATIONS, SITE):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        clinic.core.create_namespace({"metadata": {"name": name, "labels": labels}})
    clinic.admin.install(operator())
    clinic.admin.install(basel(f"{FEDERATIONS}/abdomen"))
    keys = {"accessKey": minio.access_key, "secretKey": minio.secret_key}
    clinic.core.create_namespaced_secret(FEDERATIONS, {"metadata": {"name": "store"}, "stringData": keys})
    clinic.core.create_namespaced_persistent_volume_claim(SITE, claim("images"))
    for name in ("images", "basel-state"):
        clinic.core.patch_namespaced_persistent_volume_claim_status(
            name, SITE, {"status": {"phase": "Bound"}}
        )
    store = {
        "endpoint": f"http://{minio.address}",
        "bucket": minio.make_bucket(),
        "secretRef": {"name": "store"},
    }
    member = {"alias": "basel", "siteRef": {"namespace": SITE, "name": "basel"}}
    wanted = changed(
        build_federation(),
        {
            "metadata": {"name": "abdomen", "namespace": FEDERATIONS},
            "spec.sites": [member],
            "spec.store": store,
        },
    )
    CustomObjectsApi(apiserver.client()).create_namespaced_custom_object(
        *PLACE, FEDERATIONS, "segvizfederations", wanted
    )
    yield clinic
    clinic.admin.uninstall(basel())
    clinic.admin.uninstall(operator())


def claim(name: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": spec}


def test_what_is_well_is_said(clinic: Clinic):
    said = clinic.ask()
    for line in (
        "✓ the CRD segvizfederations.segviz.dev is installed, in the version of this segviz",
        "✓ the CRD segvizsites.segviz.dev is installed, in the version of this segviz",
        f"✓ the operator ({OPERATOR}/segviz-operator) has all the rights it needs in {FEDERATIONS}",
        "✓ Secret clinic-radiology/store holds the store's keys",
        "refuses a second create, and its STS gives expiring credentials",
        f"✓ site {SITE}/basel consents to {FEDERATIONS}/abdomen",
        f"✓ the operator ({OPERATOR}/segviz-operator) has all the rights it needs in {SITE}",
        f"✓ the claim images of {SITE}/basel (images) is bound",
        f"✓ the claim basel-state of {SITE}/basel (state) is bound",
        f"✓ {SITE} enforces PodSecurity restricted",
    ):
        assert line in said, said


def test_the_exit_code_says_whether_something_is_to_be_mended(clinic: Clinic):
    apps = AppsV1Api(clinic.apiserver.client())
    asked = ("--operator", f"{OPERATOR}/segviz-operator")
    code, said = clinic.doctor(*asked)
    assert (code, "✗ the operator is not ready" in said) == (1, True)
    status = {"replicas": 1, "readyReplicas": 1}
    apps.patch_namespaced_deployment_status("segviz-operator", OPERATOR, {"status": status})
    code, said = clinic.doctor(*asked)
    assert (code, "✗" in said, "✓ the operator runs" in said) == (0, False, True)


def test_an_api_server_that_does_not_answer_is_exit_code_2(clinic: Clinic, tmp_path: Path):
    gone = ApiServer("https://127.0.0.1:1", "x", clinic.apiserver.authority).write_kubeconfig(
        tmp_path / "gone"
    )
    code, said = clinic.doctor(kubeconfig=gone)
    assert (code, "The API server could not be asked" in said) == (2, True)


def test_an_older_crd_is_told_from_this_versions(clinic: Clinic):
    extensions = ApiextensionsV1Api(clinic.apiserver.client())
    name = "segvizsites.segviz.dev"
    schema = "/spec/versions/0/schema/openAPIV3Schema"
    path = f"{schema}/properties/spec/properties/trainer/properties/image/maxLength"
    extensions.patch_custom_resource_definition(name, [{"op": "replace", "path": path, "value": 7}])
    try:
        said = clinic.doctor("--operator", f"{OPERATOR}/segviz-operator")[1]
        assert (
            f"✗ the installed CRD {name} is not the one of this segviz: they differ in "
            "spec.trainer.image.maxLength" in said
        )
        assert "kubectl apply --server-side" in said
    finally:
        extensions.patch_custom_resource_definition(name, [{"op": "replace", "path": path, "value": 512}])


def test_withdrawn_consent_is_named_with_who_can_give_it(clinic: Clinic):
    rbac = RbacAuthorizationV1Api(clinic.apiserver.client())
    name = f"segviz:consent:{FEDERATIONS}:abdomen"
    rbac.delete_namespaced_role_binding(name, SITE)
    try:
        said = clinic.ask("--no-store")
        assert f"has no RoleBinding {name}: consent is withdrawn" in said
        assert f"Its owner: helm upgrade basel charts/segviz-site -n {SITE}" in said
    finally:
        clinic.admin.upgrade(basel(f"{FEDERATIONS}/abdomen"))


def test_a_federation_that_a_site_does_not_allow_is_named(clinic: Clinic):
    clinic.admin.upgrade(basel("elsewhere/chest"))
    try:
        assert f"✗ site {SITE}/basel does not allow {FEDERATIONS}/abdomen" in clinic.ask("--no-store")
    finally:
        clinic.admin.upgrade(basel(f"{FEDERATIONS}/abdomen"))


def test_consent_to_another_operator_is_told(clinic: Clinic):
    clinic.admin.upgrade(basel(f"{FEDERATIONS}/abdomen", operator={"namespace": "somewhere-else"}))
    try:
        said = clinic.ask("--no-store")
        assert (
            "is for somewhere-else/segviz-operator, and the operator is clinic-operator/segviz-operator"
            in said
        )
        assert f"set operator.namespace={OPERATOR}" in said
    finally:
        clinic.admin.upgrade(basel(f"{FEDERATIONS}/abdomen"))


def test_rights_that_the_operator_lacks_are_listed(clinic: Clinic):
    clinic.admin.upgrade(operator(federationNamespaces=[OPERATOR]))
    try:
        said = clinic.ask("--no-store")
        assert f"lacks rights in {FEDERATIONS}: delete segvizfederations, create patch delete jobs" in said
        assert f"helm upgrade the operator with {FEDERATIONS} in federationNamespaces" in said
    finally:
        clinic.admin.upgrade(operator())


def test_a_missing_claim_is_named(clinic: Clinic):
    clinic.admin.upgrade(basel(f"{FEDERATIONS}/abdomen", state={"existingClaim": "nowhere"}))
    try:
        said = clinic.ask("--no-store")
        assert f"✗ site {SITE}/basel has no claim nowhere for its state" in said
    finally:
        clinic.admin.upgrade(basel(f"{FEDERATIONS}/abdomen"))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"accessKey": "x" * 8}, "accessKey"),
        (
            {"accessKey": "nobody12", "secretKey": "nothing12"},
            "✗ the store refuses the operator's credentials",
        ),
    ],
    ids=["half a Secret", "unknown keys"],
)
def test_a_secret_that_does_not_open_the_store_is_told(
    clinic: Clinic, minio: Server, keys: dict[str, str], says: str
):
    right = {"accessKey": minio.access_key, "secretKey": minio.secret_key}
    replace_secret(clinic, keys)
    try:
        said = clinic.ask()
        assert says in said
        assert "nothing12" not in said
    finally:
        replace_secret(clinic, right)


def replace_secret(clinic: Clinic, keys: dict[str, str]) -> None:
    clinic.core.delete_namespaced_secret("store", FEDERATIONS)
    clinic.core.create_namespaced_secret(FEDERATIONS, {"metadata": {"name": "store"}, "stringData": keys})


def test_what_one_may_not_know_is_no_fault(clinic: Clinic, tmp_path: Path):
    request = {"spec": {"expirationSeconds": 600}}
    token = clinic.core.create_namespaced_service_account_token("segviz-trainer", SITE, request).status.token
    nobody = clinic.apiserver.write_kubeconfig(tmp_path / "nobody", token)
    code, said = clinic.doctor("-n", FEDERATIONS, "abdomen", "--site", f"{SITE}/basel", kubeconfig=nobody)
    assert "✗" not in said
    assert f"? cannot check federation {FEDERATIONS}/abdomen: you may not read it" in said
    assert code == 0


def test_a_site_looks_after_itself(clinic: Clinic):
    said = clinic.doctor("--site", f"{SITE}/basel", "--operator", f"{OPERATOR}/segviz-operator")[1]
    assert f"✓ site {SITE}/basel consents to {FEDERATIONS}/abdomen" in said
    assert "which may change" in said
