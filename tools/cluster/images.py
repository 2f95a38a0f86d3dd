"""The project's images, built by its Containerfiles with buildah, and how they come to the node."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.base import PYTHON_VERSION, python_base, torch_base
from cluster.command import run, succeeds
from cluster.failure import ClusterFailed
from cluster.layout import CACHE, Layout
from cluster.node import PAUSE_IMAGE, ctr

ROOT = Path(__file__).resolve().parents[2]
CONTEXTS = CACHE / "images"
LAYERS = CACHE / "layers"  # an OCI layout; may be deleted at any time


@dataclass(frozen=True)
class Role:
    name: str
    extras: tuple[str, ...] = ()
    above: str | None = None
    """The role whose image this one begins with."""


ROLES = (
    Role("operator", ("operator",)),
    Role("aggregator"),
    Role("trainer", ("trainer",)),
    Role("local", ("operator", "trainer"), above="trainer"),
)


def build(role: Role, base: str, python_version: str, *, has_torch: bool, tag: str) -> str:
    """The image's name. A layer whose inputs are the same is not built again."""
    context = CONTEXTS / tag / role.name
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    _lock(role, context / "requirements.txt", python_version, has_torch)
    _wheel(context)
    name = f"localhost/segviz/{role.name}:{tag}"
    run(
        "buildah",
        "build",
        "--layers",
        "--isolation=chroot",
        "--network=host",
        # This machine's authorities, for a package index behind its own.
        "--volume=/etc/ssl/certs:/etc/ssl/certs:ro",
        "--timestamp=0",
        f"--build-arg=BASE_IMAGE={base}",
        f"--file={ROOT / 'images' / role.name / 'Containerfile'}",
        f"--tag={name}",
        context,
    )
    return name


def build_for_tests() -> dict[str, str]:
    names: dict[str, str] = {}
    for role in ROLES:
        has_torch = "trainer" in role.extras
        started = time.monotonic()
        base = names[role.above] if role.above else torch_base() if has_torch else python_base()
        names[role.name] = build(role, base, PYTHON_VERSION, has_torch=has_torch, tag="test")
        print(f"{names[role.name]}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return names


def build_for_release(base: str, python_version: str, tag: str) -> dict[str, str]:
    """On a base without torch: the trainer's comes with CUDA from the package index."""
    names: dict[str, str] = {}
    for role in ROLES:
        below = names[role.above] if role.above else base
        names[role.name] = build(role, below, python_version, has_torch=False, tag=tag)
        print(f"{names[role.name]}: {size_mebibytes(names[role.name])} MiB", file=sys.stderr, flush=True)
    return names


def write_boms(folder: Path, python_version: str) -> list[Path]:
    """What each image adds to its base, as CycloneDX."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for role in ROLES:
        requirements = folder / f"{role.name}.txt"
        _lock(role, requirements, python_version, has_torch=False)
        bom = folder / f"{role.name}.cdx.json"
        run(
            Path(sys.executable).with_name("cyclonedx-py"),
            "requirements",
            requirements,
            f"--pyproject={ROOT / 'pyproject.toml'}",
            "--mc-type=application",
            "--output-reproducible",
            f"--output-file={bom}",
        )
        requirements.unlink()
        written.append(bom)
    return written


def size_mebibytes(name: str) -> int:
    """Unpacked, base included."""
    found = json.loads(run("buildah", "images", "--json", name))
    number, unit = str(found[0]["size"]).split()
    factor = {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    return round(float(number) * factor / 2**20)


def load(layout: Layout) -> dict[str, str]:
    """Each role's image on the node, by its digest."""
    loaded_file = layout.settings / "images.json"
    with (layout.settings / "images.lock").open("w", encoding="utf-8") as lock:
        # Two checkouts would build into the same names.
        fcntl.flock(lock, fcntl.LOCK_EX)
        loaded: dict[str, list[str]] = (
            json.loads(loaded_file.read_text(encoding="utf-8")) if loaded_file.exists() else {}
        )
        for role, name in build_for_tests().items():
            identity = run("buildah", "inspect", "--type=image", "--format={{.FromImageID}}", name).strip()
            if loaded.get(role, [""])[0] != identity:
                loaded[role] = [identity, import_image(layout, name)]
                loaded_file.write_text(json.dumps(loaded, indent=2), encoding="utf-8")
    return {role: reference for role, (_, reference) in loaded.items()}


def import_image(layout: Layout, name: str) -> str:
    known = set(run(*ctr(layout), "content", "list", "--quiet").split())
    with tempfile.TemporaryDirectory(dir=layout.root) as folder:
        # Uncompressed, so that a layer is the same blob whenever it is pushed.
        run("buildah", "push", "--quiet", "--disable-compression", name, f"oci:{LAYERS}:{name}")
        archive = Path(folder, "image.tar")
        _pack(LAYERS, name, known, archive)
        run(*ctr(layout), "images", "import", "--all-platforms", archive)
    row = next(
        line for line in run(*ctr(layout), "images", "list", f"name=={name}").splitlines() if name in line
    )
    digest = re.search(r"sha256:[0-9a-f]{64}", row)
    if digest is None:
        raise ClusterFailed(f"containerd tells no digest of {name}: {row}")
    reference = f"{name.rpartition(':')[0]}@{digest.group()}"
    run(*ctr(layout), "images", "tag", "--force", name, reference)
    return reference


def _pack(layout_folder: Path, name: str, known: set[str], archive: Path) -> None:
    """The image as an OCI archive without the layers that the node has already: a base is 1.5 GB."""
    index = json.loads((layout_folder / "index.json").read_text(encoding="utf-8"))
    named = "org.opencontainers.image.ref.name"
    found = [each for each in index["manifests"] if each.get("annotations", {}).get(named) == name]
    blobs = layout_folder / "blobs" / "sha256"
    manifest_digest = found[0]["digest"]
    manifest = json.loads((blobs / manifest_digest.removeprefix("sha256:")).read_bytes())
    layers = [layer["digest"] for layer in manifest["layers"] if layer["digest"] not in known]
    found[0]["annotations"]["io.containerd.image.name"] = name
    with tarfile.open(archive, "w") as tar:
        tar.add(layout_folder / "oci-layout", "oci-layout")
        for digest in dict.fromkeys((manifest_digest, manifest["config"]["digest"], *layers)):
            hexadecimal = digest.removeprefix("sha256:")
            tar.add(blobs / hexadecimal, f"blobs/sha256/{hexadecimal}")
        text = json.dumps({**index, "manifests": found}).encode()
        entry = tarfile.TarInfo("index.json")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))


def import_busybox(layout: Layout) -> None:
    """One static program: it holds a pod's namespaces, and serves tests that need a small pod."""
    if PAUSE_IMAGE in run(*ctr(layout), "images", "list", "--quiet").split():
        return
    program = shutil.which("busybox")
    assert program is not None  # ensure_packages
    container = run("buildah", "from", "scratch").strip()
    try:
        run("buildah", "copy", "--quiet", container, program, "/bin/busybox")
        for applet in ("sh", "sleep", "cat", "wget", "ls", "touch", "id", "nslookup"):
            run("buildah", "copy", "--quiet", container, program, f"/bin/{applet}")
        settings = (
            "--user=65532:65532",
            "--env=PATH=/bin",
            '--entrypoint=["/bin/busybox", "sleep", "2147483647"]',
        )
        run("buildah", "config", *settings, container)
        run("buildah", "commit", "--quiet", container, PAUSE_IMAGE)
    finally:
        run("buildah", "rm", container)
    import_image(layout, PAUSE_IMAGE)


def _lock(role: Role, file: Path, python_version: str, has_torch: bool) -> None:
    """The lock file's versions of what this role needs."""
    command = [
        _uv(),
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-annotate",
        "--no-header",
        "--no-emit-index-url",
        f"--python-version={python_version}",
        f"--constraints={ROOT / 'requirements.lock'}",
        f"--output-file={file}",
    ]
    command += [f"--extra={extra}" for extra in role.extras]
    if has_torch:
        overrides = file.with_name("overrides.txt")
        overrides.write_text("torch ; python_version < '3'\n", encoding="utf-8")  # never
        command.append(f"--overrides={overrides}")
    run(*command, ROOT / "pyproject.toml")


def _wheel(context: Path) -> None:
    epoch = os.environ | {"SOURCE_DATE_EPOCH": "315532800"}  # the same files are the same wheel
    run(_uv(), "build", "--quiet", "--wheel", "--no-build-isolation", f"--out-dir={context}", ROOT, env=epoch)


def _uv() -> str:
    found = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    if not succeeds([found, "--version"]):
        raise ClusterFailed("No uv: run make install first.")
    return found
