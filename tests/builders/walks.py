"""Where each command of the docs is run: on an API server, on one machine, or by a test that does more."""

import re
from collections.abc import Mapping

from builders.documented import LINES, SPANS, Line

HOSPITAL = (
    "docs/how-to/install.md",
    "docs/how-to/watch-a-federation.md",
    "docs/reference/api.md",
    "docs/README.md",
    "docs/tutorials/your-own-data.md",
    "docs/how-to/runbooks/pod-stuck.md",
    "docs/how-to/runbooks/operator-down.md",
    "docs/how-to/runbooks/quorum-lost.md",
    "docs/how-to/runbooks/site-silent.md",
    "docs/how-to/runbooks/federation-failed.md",
    "docs/how-to/operations.md",
    "docs/how-to/store.md",
    "docs/how-to/join.md",
    "docs/how-to/gitops.md",
    "docs/reference/operator.md",
    "docs/how-to/upgrade.md",
)
"""From the first command to the last uninstall."""
REPOSITORY = ("charts/segviz-operator/README.md", "charts/segviz-site/README.md", "README.md")
"""What a reader of the repository meets first."""

ELSEWHERE: Mapping[str, tuple[str, str]] = {
    r"kubectl .*\blogs\b|segviz logs": ("tests/e2e/test_docs_pods.py", "a Pod must have run"),
    r"kubectl .*port-forward": ("tests/e2e/test_docs_pods.py", "a Pod must run"),
    r"kubectl (drain|delete node)": ("tests/e2e/test_interruptions.py", "a node must be there"),
    r"segviz fetch -n": ("tests/e2e/test_whole.py", "a federation must have ended in a store"),
    r"kubectl .*segviz.dev/site=": ("tests/e2e/test_remote.py", "the operator must have made a join file"),
    r"helm .*oci://": ("tests/integration/test_release.py", "a registry must hold a release"),
    r"segviz (join|doctor --join)": (
        "tests/integration/test_doctor_join.py",
        "a store must have a join file",
    ),
    r"segviz store check": (
        "tests/integration/test_store_tls.py",
        "a store must be there, with an authority",
    ),
    r"segviz init": ("tests/integration/test_pretrained.py", "a federation must wait for its start"),
    r"segviz status .*--web": ("tests/integration/test_watching.py", "it serves until Ctrl-C"),
    r"segviz run .*--metrics-port": (
        "tests/integration/test_watching.py",
        "somebody must look while it runs",
    ),
    r"segviz study": ("tests/integration/test_study.py", "it takes minutes"),
    r"segviz (run|evaluate) \S*(totalsegmentator|phantom|hippocampus|paper)": (
        "tests/unit/operator/manifests/test_manifest.py",
        "it takes minutes, or images that are not here",
    ),
    r"make (demo|study)": ("tests/integration/test_study.py", "it takes many minutes"),
    r"make (test|e2e|e2e-full)\b": ("tests/charts/test_docs_commands.py", "it runs the tests"),
    r"make (cluster|cluster-down|images)\b": ("tests/e2e/conftest.py", "it needs root"),
    r"make release": ("tests/e2e/test_released.py", "it needs root"),
    r"make bump": ("tests/charts/test_bump.py", "it changes the checkout"),
}
"""By pattern: the test that does it, and why it is not done where all the others are."""


def told_on(page: str) -> list[Line]:
    """In the order of the page."""
    return sorted((each for each in (*LINES, *SPANS) if each.place == page), key=lambda line: line.at)


def elsewhere(line: Line) -> tuple[str, str] | None:
    for pattern, where in ELSEWHERE.items():
        if re.match(pattern, line.text):
            return where
    return None


def runs_in_cluster(line: Line) -> bool:
    if line.words[0] == "segviz":
        asks = line.words[1] == "doctor" or (line.words[1] == "status" and "-n" in line.words)
        return asks and "--join" not in line.words and elsewhere(line) is None
    return line.words[0] in ("kubectl", "helm") and elsewhere(line) is None


def runs_here(line: Line) -> bool:
    return line.words[0] == "segviz" and not runs_in_cluster(line) and elsewhere(line) is None
