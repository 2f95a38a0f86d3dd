"""`segviz plan`: a plan and its reasons, before anyone trains."""

import copy
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml
from msgspec.structs import replace

from segviz_exchange.contract.choices import Planning
from segviz_exchange.contract.fingerprint import Fingerprint
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.console import open_console
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.writing import write_whole
from segviz_operator.local.volumes import Volumes, parse_volumes
from segviz_operator.manifests.acceptance import accept
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.manifest import Federation, Manifests, load, parse
from segviz_operator.manifests.problem import nearest
from segviz_operator.planning.plan import Plan, Unplannable, make_plan

_EXAMPLES = """\b
Examples:
  segviz plan examples/hippocampus --data DIR
  segviz plan federation.yaml sites/ --data DIR -o planned.yaml
  segviz plan federation.yaml sites/ \\
    --fingerprint basel.json --fingerprint bern.json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--data",
    multiple=True,
    metavar="[ALIAS=]FOLDER",
    help="Folder with the images of a site, whose training cases are measured here; without ALIAS, of every "
    "site. May be repeated.",
)
@click.option(
    "--fingerprint",
    "told",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What a site tells of its cases, in place of its images: sites/ALIAS/fingerprint.json of a bucket. "
    "May be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the federation's manifest with its numbers here.",
)
def plan(files: tuple[Path, ...], data: tuple[str, ...], told: tuple[Path, ...], output: Path | None) -> None:
    """Show what plan: Auto would fill in, and why; nothing is trained and nothing is sent.

    FILE is a YAML file, or a folder of them, with one SegVizFederation and its SegVizSites. Where the
    federation asks for no plan, all is planned that can be. The written manifest has plain numbers, so that
    sites need tell nothing.
    """
    federation, accepted = _accepted(load(files))
    known = dict(map(_read, told))
    for alias in known:
        if alias not in accepted.members:
            guess = nearest(alias, list(accepted.members))
            hint = f"Did you mean {guess}?" if guess else f"The sites are {', '.join(accepted.members)}."
            raise Refusal(f"--fingerprint: there is no training site {alias!r}. {hint}")
    spec = _asking(federation.spec)
    known |= _measured(accepted, parse_volumes(data), known, spec.seed)
    try:
        made = make_plan(spec, known.values(), _heads(accepted, spec))
    except Unplannable as error:
        raise Refusal(f"{federation}: there is no plan: {error}") from error
    console = open_console()
    for reason in made.reasons:
        console.print(reason, highlight=False, markup=False, soft_wrap=True)
    manifest = _written(federation, made)
    if output is None:
        console.print(f"\n{manifest}", highlight=False, markup=False, soft_wrap=True)
        return
    write_whole(output, manifest.encode())
    console.print(f"Manifest with these numbers: {output}", highlight=False, markup=False, soft_wrap=True)


def _accepted(manifests: Manifests) -> tuple[Federation, Accepted]:
    if len(manifests.federations) != 1:
        raise Refusal(
            f"{len(manifests.federations)} SegVizFederations found; a plan is of one. Name the files of one, "
            "and those of its sites."
        )
    (federation,) = manifests.federations
    # Whether sites would send a fingerprint is not asked: what is measured here stays here.
    raw: dict[str, Any] = copy.deepcopy(dict(federation.raw))
    for section in ("preprocessing", "model"):
        raw["spec"].get(section, {}).pop("plan", None)
    raw["spec"].get("model", {}).pop("memoryMebibytes", None)
    plain = parse(raw, str(federation))
    assert isinstance(plain, Federation), "its kind is the same"
    return federation, accept(plain, manifests.sites)


def _asking(spec: FederationSpec) -> FederationSpec:
    """The spec itself, or, where it asks for no plan, for all that can be planned."""
    if spec.awaits_plan:
        return spec
    return replace(
        spec,
        preprocessing=replace(spec.preprocessing, plan=Planning.AUTO),
        model=replace(spec.model, plan=Planning.AUTO),
    )


def _heads(accepted: Accepted, spec: FederationSpec) -> int:
    return 1 if spec.shared_head else max(len(site.spec.organs) for site in accepted.members.values())


def _read(path: Path) -> tuple[str, Fingerprint]:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Fingerprint)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: is no fingerprint: {error}. Name a site's fingerprint.json.") from error
    return found.site, found


def _measured(
    accepted: Accepted, volumes: Volumes, known: Iterable[str], seed: int
) -> Mapping[str, Fingerprint]:
    """Of the sites of which none is known, by the trainer: it reads images."""
    missing = [alias for alias in accepted.members if alias not in set(known)]
    volumes.check_aliases(accepted.members)
    roots = volumes.roots(Accepted(accepted.federation, {a: accepted.members[a] for a in missing}, {}))
    found: dict[str, Fingerprint] = {}
    with tempfile.TemporaryDirectory(prefix="segviz-plan-") as folder:
        for alias in missing:
            if alias not in roots:
                raise Refusal(f"site {alias!r}: its images are elsewhere. Give its --fingerprint FILE.")
            spec, output = Path(folder) / f"{alias}.spec.json", Path(folder) / f"{alias}.json"
            spec.write_bytes(msgspec.json.encode(accepted.members[alias].spec))
            options = {"--site": alias, "--site-spec": spec, "--data-root": roots[alias], "--seed": seed}
            words = [str(word) for option in options.items() for word in option]
            program = (sys.executable, "-m", "segviz_trainer", "fingerprint")
            if code := subprocess.run((*program, *words, "--output", str(output)), check=False).returncode:
                sys.exit(code)
            found |= [_read(output)]
    return found


def _written(federation: Federation, made: Plan) -> str:
    """The manifest with what was planned, and the reasons above it."""
    raw = msgspec.to_builtins(federation.raw)
    spec, planned = raw["spec"], msgspec.to_builtins(made.spec)
    asked = _asking(federation.spec)
    if asked.preprocessing.plan is not None:
        intensity = {name: value for name, value in planned["preprocessing"]["intensity"].items() if value}
        spacing = planned["preprocessing"]["spacingMillimetres"]
        spec["preprocessing"] = {"spacingMillimetres": spacing, "intensity": intensity}
    if asked.model.plan is not None:
        kept = {
            name: value
            for name, value in spec.get("model", {}).items()
            if name not in ("plan", "memoryMebibytes", "axisStrides", "kernels")
        }
        numbers = {name: planned["model"][name] for name in ("channels", "strides", "headLevels")}
        by_axis = {name: planned["model"][name] for name in ("axisStrides", "kernels")}
        spec["model"] = {**kept, **numbers, **{name: each for name, each in by_axis.items() if each}}
        batch = {name: planned["training"][name] for name in ("patch", "batchSize", "cropsPerVolume")}
        spec["training"] = {**spec.get("training", {}), **batch}
    reasons = "".join(f"# {reason}\n" for reason in made.reasons)
    return reasons + yaml.safe_dump(
        _listed(raw), sort_keys=False, default_flow_style=None, allow_unicode=True
    )


def _listed(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Lists in place of tuples, which YAML's safe dumper does not know."""
    if isinstance(value, dict):
        return {name: _listed(each) for name, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value
