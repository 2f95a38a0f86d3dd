"""What Argo CD and Flux would say of a federation and a site, by the checks of docs/how-to/gitops.md."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cel_expr_python import cel
from lupa.lua51 import LuaRuntime  # Argo CD's own is a Lua 5.1

from builders.federations import build_spec
from builders.mistakes import build_federation, build_site, changed
from segviz_operator.cluster.status.federation_status import Picture, build_federation_status
from segviz_operator.cluster.status.site_status import build_site_status
from segviz_operator.manifests.manifest import Site, parse
from segviz_operator.progress.status import FederationStatus

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "gitops.md"
ARGO, FLUX = (
    yaml.safe_load(block)
    for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
)
STATE = {"persistentVolumeClaim": {"claimName": "state"}}


def federation(phase: str, suspend: bool = False, refused: tuple[str, str] | None = None) -> dict[str, Any]:
    summary = FederationStatus(
        "radiology/abdomen", phase, f"because {phase}", 1, 3, 1, 0.5, 0.5, None, 0.3, None, "waits", ()
    )
    picture = Picture(7, build_spec(), NOW, refused, None, None if refused else summary)
    status = build_federation_status(picture, {})
    said = {"metadata.generation": 7, "spec.suspend": suspend, "status": status}
    return changed(build_federation(), said)


def site(**changes: Any) -> dict[str, Any]:
    described = changed(
        build_site(), {"metadata.generation": 3, **{f"spec.{name}": each for name, each in changes.items()}}
    )
    known = parse(described)
    assert isinstance(known, Site)
    return {**described, "status": build_site_status(known, (), {}, NOW)}


OBJECTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a new federation": (
        changed(build_federation(), {"metadata.generation": 1, "status": {}}), "Progressing", "inProgress",
    ),
    "one that was edited": (
        changed(federation("Training"), {"metadata.generation": 8}), "Progressing", "inProgress",
    ),
    "one without consent": (
        federation("Pending", refused=("NotConsented", "bern has not consented")), "Degraded", "failed",
    ),
    "one that trains": (federation("Training"), "Healthy", "current"),
    "one that rests": (federation("Suspended", suspend=True), "Suspended", "current"),
    "one that has ended": (federation("Complete"), "Healthy", "current"),
    "one that has ended and rests": (federation("Complete", suspend=True), "Healthy", "current"),
    "one that has failed": (federation("Failed"), "Degraded", "failed"),
    "a site": (site(state=STATE, trainer={"image": "trainer:1"}), "Healthy", "current"),
    "a site that rests": (
        site(state=STATE, trainer={"image": "trainer:1"}, suspend=True), "Suspended", "current",
    ),
    "a site without an image": (site(state=STATE), "Degraded", "failed"),
}  # fmt: skip

each_object = pytest.mark.parametrize(("found", "argo", "flux"), OBJECTS.values(), ids=OBJECTS)


@each_object
def test_argo_cd_says(found: dict[str, Any], argo: str, flux: str):
    lua = LuaRuntime(unpack_returned_tuples=True)
    script = ARGO["data"][f"resource.customizations.health.segviz.dev_{found['kind']}"]
    health = lua.execute(f"return function(obj) {script} end")(lua.table_from(found, recursive=True))
    assert health["status"] == argo
    if argo == "Degraded":
        assert health["message"]


@each_object
def test_flux_says(found: dict[str, Any], argo: str, flux: str):
    (checks,) = (each for each in FLUX["spec"]["healthCheckExprs"] if each["kind"] == found["kind"])
    environment = cel.NewEnv(variables={"status": cel.Type.DYN, "metadata": cel.Type.DYN})

    def holds(name: str) -> bool:
        outcome = environment.compile(checks[name]).eval(
            data={"status": found["status"], "metadata": found["metadata"]}
        )
        return bool(outcome.value() is True)

    # In this order; the first that holds is the answer.
    assert next((name for name in ("inProgress", "failed", "current") if holds(name)), None) == flux
