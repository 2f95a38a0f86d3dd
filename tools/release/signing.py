"""Signatures as cosign keeps and verifies them, made by OpenSSL with a key of one's own.

The formats: cosign's signature specification (simple signing), and in-toto statements in DSSE envelopes.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.failure import ReleaseFailed

SIGNATURE = "dev.cosignproject.cosign/signature"
_IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Layer:
    data: bytes
    media_type: str
    annotations: dict[str, str]


@dataclass(frozen=True)
class Key:
    """A private key on the curve P-256, as PEM."""

    path: Path

    def sign(self, data: bytes) -> str:
        """ECDSA over SHA-256, in base64."""
        words = ("openssl", "dgst", "-sha256", "-sign", str(self.path))
        try:
            done = subprocess.run(words, input=data, capture_output=True)
        except FileNotFoundError as error:
            raise ReleaseFailed("openssl, which signs, is not on this machine. Install it.") from error
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip()
            raise ReleaseFailed(
                f"{self.path}: cannot sign with it: {why}\n"
                "Make one: openssl ecparam -genkey -name prime256v1 -noout -out segviz.pem"
            )
        return base64.b64encode(done.stdout).decode()


def signature(key: Key, repository: str, digest: str) -> Layer:
    """Of an image or a chart."""
    payload = _json(
        {
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    media_type = "application/vnd.dev.cosign.simplesigning.v1+json"
    return Layer(payload, media_type, {SIGNATURE: key.sign(payload)})


def attestation(key: Key, repository: str, digest: str, predicate_type: str, predicate: Any) -> Layer:  # noqa: ANN401 - JSON
    """A signed statement about an image or a chart, such as its bill of materials."""
    statement = _json(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": repository, "digest": {"sha256": digest.removeprefix("sha256:")}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )
    said = b"DSSEv1 %d %s %d %s" % (len(_IN_TOTO), _IN_TOTO.encode(), len(statement), statement)
    envelope = {
        "payloadType": _IN_TOTO,
        "payload": base64.b64encode(statement).decode(),
        "signatures": [{"keyid": "", "sig": key.sign(said)}],
    }
    annotations = {SIGNATURE: "", "predicateType": predicate_type}
    return Layer(_json(envelope), "application/vnd.dsse.envelope.v1+json", annotations)


def _json(value: Any) -> bytes:  # noqa: ANN401 - JSON
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
