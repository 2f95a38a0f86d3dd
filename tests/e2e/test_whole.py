"""From nothing but Helm and kubectl to a model."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bucket import StoreAddress
from federation import Federation, Make
from hospitals import HIPPOCAMPUS, hippocampus_scene
from install import COORDINATOR, Installation
from one_machine import Reference, run_on_one_machine


def test_a_federation_completes_with_the_bits_of_one_machine(
    make: Make, reference: Reference, tmp_path: Path
) -> None:
    """Three sites, two organs, one of them shared by two: Complete, and all global models and the final ones
    are those of `segviz run` in the same image, bit for bit. Then the coordinator fetches the models."""
    federation = make("whole")
    federation.apply()
    federation.wait_for("Complete")
    assert federation.bucket().rounds() == reference.rounds
    assert federation.bucket().exported() == reference.exported
    fetch(federation, tmp_path / "home")
    for variant, digest in reference.exported.items():
        model = (tmp_path / "home" / variant / "model.safetensors").read_bytes()
        assert hashlib.sha256(model).hexdigest() == digest
    page = (tmp_path / "home" / "report.html").read_text(encoding="utf-8")
    assert all(alias in page for alias in federation.scene.training)
    assert "<img" not in page, "a page that is made from a bucket holds no images"


def fetch(federation: Federation, output: Path) -> None:
    """By the command that docs/how-to/get-the-model.md gives, with the rights of KUBECONFIG."""
    segviz = Path(sys.executable).with_name("segviz")
    where = ("-n", federation.namespace, federation.name, "-o", output)
    done = subprocess.run((segviz, "fetch", *where), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_real_images_give_the_bits_of_one_machine(
    installation: Installation, store: StoreAddress, tmp_path: Path
) -> None:
    """The same on hippocampus images, in namespaces of their own, one of which only evaluates."""
    if not HIPPOCAMPUS.exists():
        pytest.skip(f"no images of MSD Task04 at {HIPPOCAMPUS}")
    scene = hippocampus_scene(tmp_path / "images")
    installation.everything(scene, [f"{COORDINATOR}/hippocampus"])
    federation = Federation(installation.kube, store, scene, "hippocampus")
    try:
        federation.apply()
        federation.wait_for("Complete", seconds=600)
        reference = run_on_one_machine(installation, federation, os.environ["SEGVIZ_LOCAL_IMAGE"])
        assert federation.bucket().rounds() == reference.rounds
        assert federation.bucket().exported() == reference.exported
        evaluation = federation.status()["evaluation"]
        assert [each["alias"] for each in evaluation] == ["abroad"]
        assert evaluation[0]["dice"].keys() == {"anterior", "posterior"}
    finally:
        federation.delete()
