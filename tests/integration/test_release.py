"""What a release puts into a registry: charts that pin their images, and signatures as cosign keeps them."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from release.__main__ import CYCLONEDX, SLSA, clean_commit, sign
from release.charts import IMAGES, pin, push_chart, with_value
from release.failure import ReleaseFailed
from release.signing import SIGNATURE, Key

from integration.built import built_tool
from integration.object_stores import ROOT
from integration.ports import free_address

DIGESTS = {
    role: f"sha256:{number:064x}" for number, role in enumerate(("operator", "aggregator", "trainer"), 1)
}
VALUES = {
    "segviz-operator": (
        "networkPolicy.store.cidrs={10.1.2.3/32}",
        "networkPolicy.apiServer.cidrs={10.1.2.4/32}",
    ),
    "segviz-site": (
        "networkPolicy.store.cidrs={10.1.2.3/32}",
        "data.existingClaim=images",
        "dataSets[0].name=livers,dataSets[0].layout=MSD,dataSets[0].organs.liver[0]=1",
    ),
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of an empty one."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        pytest.skip(
            "docker-registry, a registry, is not installed; on Debian: apt-get install docker-registry"
        )
    folder, address = tmp_path_factory.mktemp("registry"), free_address()
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    (folder / "config.yml").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen((program, "serve", folder / "config.yml"), stdout=log, stderr=log)
    try:
        give_up = time.monotonic() + 60
        while True:
            try:
                urllib3.request("GET", f"http://{address}/v2/", retries=False, timeout=1)
                break
            except urllib3.exceptions.HTTPError:
                said = (folder / "log").read_text(encoding="utf-8")
                assert process.poll() is None, said
                assert time.monotonic() < give_up, said
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which signs, is not installed")
    folder = tmp_path_factory.mktemp("key")
    openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", folder / "segviz.pem")
    openssl("ec", "-in", folder / "segviz.pem", "-pubout", "-out", folder / "segviz.pub")
    return Key(folder / "segviz.pem")


def openssl(*words: object) -> None:
    subprocess.run(("openssl", *map(str, words)), check=True, capture_output=True)


def verify(key: Key, folder: Path, data: bytes, signature: str) -> None:
    """Raises CalledProcessError: it is not this key's."""
    (folder / "signature").write_bytes(base64.b64decode(signature))
    (folder / "data").write_bytes(data)
    public = key.path.with_suffix(".pub")
    openssl("dgst", "-sha256", "-verify", public, "-signature", folder / "signature", folder / "data")


def test_a_value_is_replaced_where_it_stands_and_comments_stay() -> None:
    text = '# first\na:\n  # -- said\n  b: ""  # beside\n  c: {d: x}\ne: ""\n'
    assert with_value(text, ("a", "b"), "new") == text.replace('b: ""', 'b: "new"')
    assert with_value(text, ("a", "c", "d"), "new") == text.replace("d: x", 'd: "new"')


@pytest.mark.parametrize("chart", IMAGES)
def test_a_released_chart_runs_its_images_by_digest(chart: str, tmp_path: Path) -> None:
    copy = tmp_path / chart
    shutil.copytree(ROOT / "charts" / chart, copy)
    pin(copy, "registry.example/segviz", DIGESTS)
    sets = [word for value in VALUES[chart] for word in ("--set", value)]
    words = (built_tool("helm"), "template", "x", copy, "--kube-version", "1.34.4", *sets)
    # Taken away, a value falls back to the same default.
    nulls = [w for where in IMAGES[chart] for w in ("--set", f"{'.'.join(where)}.digest=null")]
    for more in ((), tuple(nulls)):
        done = subprocess.run((*map(str, words), *more), capture_output=True, encoding="utf-8", check=True)
        for role in set(IMAGES[chart].values()):
            assert f"registry.example/segviz/segviz-{role}@{DIGESTS[role]}" in done.stdout


def test_a_chart_is_installed_from_a_registry_and_its_signature_holds(
    registry: str, key: Key, tmp_path: Path
) -> None:
    helm = built_tool("helm")
    digest = push_chart(helm, ROOT / "charts/segviz-site", registry, DIGESTS, plain_http=True)
    sets = [word for value in VALUES["segviz-site"] for word in ("--set", value)]
    done = subprocess.run(
        (
            *(helm, "template", "basel", f"oci://{registry}/charts/segviz-site", "--plain-http"),
            *("--kube-version", "1.34.4", *sets),
        ),
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert f"{registry}/segviz-trainer@{DIGESTS['trainer']}" in done.stdout

    repository = f"{registry}/charts/segviz-site"
    sign(key, repository, digest, {SLSA: {"made": "here"}, CYCLONEDX: {"components": []}}, plain_http=True)
    (layer,) = layers(registry, "charts/segviz-site", f"{digest.replace(':', '-')}.sig")
    payload = blob(registry, "charts/segviz-site", layer["digest"])
    assert json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == digest
    verify(key, tmp_path, payload, layer["annotations"][SIGNATURE])
    with pytest.raises(subprocess.CalledProcessError):
        verify(key, tmp_path, payload + b" ", layer["annotations"][SIGNATURE])

    said = layers(registry, "charts/segviz-site", f"{digest.replace(':', '-')}.att")
    assert [each["annotations"]["predicateType"] for each in said] == [SLSA, CYCLONEDX]
    for each in said:
        envelope = json.loads(blob(registry, "charts/segviz-site", each["digest"]))
        statement = base64.b64decode(envelope["payload"])
        (subject,) = json.loads(statement)["subject"]
        assert f"sha256:{subject['digest']['sha256']}" == digest
        kind = envelope["payloadType"].encode()
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)
        verify(key, tmp_path, signed, envelope["signatures"][0]["sig"])


def layers(registry: str, repository: str, tag: str) -> list[dict]:
    accepted = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    answer = urllib3.request("GET", f"http://{registry}/v2/{repository}/manifests/{tag}", headers=accepted)
    assert answer.status == 200, answer.data
    found: list[dict] = answer.json()["layers"]
    return found


def blob(registry: str, repository: str, digest: str) -> bytes:
    return urllib3.request("GET", f"http://{registry}/v2/{repository}/blobs/{digest}").data


def test_what_no_commit_holds_is_not_released(tmp_path: Path) -> None:
    git = ("git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run((*git, "init", "-q"), check=True)
    (tmp_path / "file").write_text("1", encoding="utf-8")
    with pytest.raises(ReleaseFailed, match="changes that no commit has"):
        clean_commit(tmp_path)
    subprocess.run((*git, "add", "-A"), check=True)
    subprocess.run((*git, "commit", "-qm", "x"), check=True)
    assert len(clean_commit(tmp_path)) == 40


def test_a_key_that_cannot_sign_is_told_with_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key", encoding="utf-8")
    with pytest.raises(ReleaseFailed, match="openssl ecparam -genkey -name prime256v1"):
        Key(tmp_path / "key").sign(b"data")
