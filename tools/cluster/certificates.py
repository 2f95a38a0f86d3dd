"""One authority and a certificate for every role, made with openssl; a kubeconfig for every client."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.command import run
from cluster.layout import API_SERVICE_IP, API_URL, NODE, NODE_IP, Layout

DAYS = "365"
LEAF_EXTENSIONS = """\
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth,serverAuth
basicConstraints=critical,CA:FALSE
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""
SERVER_NAMES = (
    f"IP:{NODE_IP}",
    f"IP:{API_SERVICE_IP}",
    "IP:127.0.0.1",
    "DNS:localhost",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    "DNS:kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True)
class Identity:
    file: str
    name: str
    organisation: str = ""
    subject_names: tuple[str, ...] = ()


IDENTITIES = (
    Identity("apiserver", "kube-apiserver", subject_names=SERVER_NAMES),
    Identity("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
    Identity("kubelet-server", f"system:node:{NODE}", "system:nodes", (f"IP:{NODE_IP}", f"DNS:{NODE}")),
    Identity("kubelet", f"system:node:{NODE}", "system:nodes"),
    Identity("controller-manager", "system:kube-controller-manager"),
    Identity("scheduler", "system:kube-scheduler"),
    Identity("proxy", "system:kube-proxy"),
    Identity("coredns", "system:coredns"),
    Identity("router", "system:kube-router"),
    Identity("admin", "admin", "system:masters"),
)


def make_certificates(layout: Layout) -> None:
    folder = layout.certificates
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key, authority = folder / "ca.key", folder / "ca.crt"
    subject = ("-subj", "/CN=segviz-test-cluster")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    # Python from 3.13 on refuses an authority that does not say what its key is for.
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    run("openssl", "req", "-x509", *curve, *usage, "-keyout", key, "-out", authority, "-days", DAYS, *subject)
    for identity in IDENTITIES:
        _sign(folder, identity, curve)
    run("openssl", "genrsa", "-out", folder / "accounts.key", "2048")
    for identity in IDENTITIES:
        if identity.file not in ("apiserver", "apiserver-kubelet", "kubelet-server"):
            write_kubeconfig(layout, identity.file)
    layout.kubeconfig.touch(mode=0o600)
    layout.kubeconfig.write_text((folder / "admin.kubeconfig").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "done").touch()


def write_kubeconfig(layout: Layout, name: str) -> Path:
    folder = layout.certificates
    settings = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "segviz",
        "contexts": [{"name": "segviz", "context": {"cluster": "segviz", "user": name}}],
        "clusters": [
            {
                "name": "segviz",
                "cluster": {"server": API_URL, "certificate-authority-data": _encoded(folder / "ca.crt")},
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _encoded(folder / f"{name}.crt"),
                    "client-key-data": _encoded(folder / f"{name}.key"),
                },
            }
        ],
    }
    path = folder / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(settings, indent=2), encoding="utf-8")  # JSON is YAML
    return path


def _sign(folder: Path, identity: Identity, curve: Sequence[str]) -> None:
    organisation = f"/O={identity.organisation}" if identity.organisation else ""
    request, extensions = folder / f"{identity.file}.csr", folder / f"{identity.file}.ext"
    names = f"subjectAltName={','.join(identity.subject_names)}\n" if identity.subject_names else ""
    extensions.write_text(f"{names}{LEAF_EXTENSIONS}", encoding="utf-8")
    subject = f"{organisation}/CN={identity.name}"
    key = folder / f"{identity.file}.key"
    run("openssl", "req", "-new", *curve, "-keyout", key, "-out", request, "-subj", subject)
    signed = ("-in", request, "-out", folder / f"{identity.file}.crt", "-extfile", extensions)
    authority = ("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial")
    run("openssl", "x509", "-req", *signed, *authority, "-days", DAYS)


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
