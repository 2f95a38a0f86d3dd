"""Base images for the tests, where no image can be pulled: Debian packages, with a CPU-only torch."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from cluster.command import run, succeeds
from cluster.failure import ClusterFailed

SUITE = "forky"
SCRIPT = Path("/usr/share/debootstrap/scripts/sid")  # an older debootstrap does not know the suite's name
PYTHON_PACKAGES = ("ca-certificates", "python3", "python3-venv")
TORCH_PACKAGES = ("python3-torch",)
PYTHON_VERSION = "3.14"
RECIPE = 1  # of what the functions below do with them


def python_base() -> str:
    """Debian's Python, for roles without torch."""
    name = f"localhost/segviz/base-python:{_key()}"
    if _exists(name):
        return name
    _say(f"{name}: debootstrap, about 60 s")
    container = run("buildah", "from", "scratch").strip()
    try:
        root = run("buildah", "mount", container).strip()
        include = f"--include={','.join(PYTHON_PACKAGES)}"
        run("debootstrap", "--variant=minbase", include, SUITE, root, _mirror(), SCRIPT)
        _clean(root)
        run("buildah", "commit", "--quiet", container, name)
    finally:
        run("buildah", "rm", container)
    return name


def torch_base() -> str:
    """The same with Debian's torch."""
    name = f"localhost/segviz/base-torch:{_key()}"
    if _exists(name):
        return name
    below = python_base()
    _say(f"{name}: Debian's torch, about 60 s")
    container = run("buildah", "from", below).strip()
    try:
        root = run("buildah", "mount", container).strip()
        names = Path(root, "etc", "resolv.conf")
        names.write_text(Path("/etc/resolv.conf").read_text(encoding="utf-8"), encoding="utf-8")
        # A mirror may be a snapshot of an earlier day.
        apt = ("chroot", root, "apt-get", "-q", "-o", "Acquire::Check-Valid-Until=false")
        run(*apt, "update")
        run(*apt, "install", "-y", "--no-install-recommends", *TORCH_PACKAGES)
        _clean(root)
        run("buildah", "commit", "--quiet", container, name)
    finally:
        run("buildah", "rm", container)
    return name


def _mirror() -> str:
    """Where this machine gets its own packages from."""
    sites = run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Label: Debian")
    for site in sites.split():
        return site
    raise ClusterFailed("apt has no Debian source to take a base image from. Set BASE_IMAGE to one you have.")


def _clean(root: str) -> None:
    run("chroot", root, "apt-get", "clean")
    run("rm", "-rf", f"{root}/var/lib/apt/lists")
    Path(root, "var", "lib", "apt", "lists").mkdir()


def _exists(name: str) -> bool:
    return succeeds(["buildah", "inspect", "--type", "image", name])


def _key() -> str:
    """Another recipe is another image."""
    recipe = (SUITE, PYTHON_PACKAGES, TORCH_PACKAGES, RECIPE)
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
