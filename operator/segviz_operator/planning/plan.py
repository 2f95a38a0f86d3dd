"""A plan: what all sites prepare and train, from what they tell of their cases.

A pure function: the same fingerprints and spec give the same plan, whatever the order of sites. Its rules,
and where they differ from nnU-Net's, are in docs/explanation/plan.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from segviz_exchange.contract.choices import Intensity, Preset, Spacing
from segviz_exchange.contract.fingerprint import FLOOR, Fingerprint
from segviz_exchange.contract.spec import FederationSpec, IntensityScaling, Preprocessing
from segviz_operator.planning.grid import COARSEST, coarser, target_spacing, voxels_of
from segviz_operator.planning.merged import Merged, Triple, merge
from segviz_operator.planning.topology import FEATURES, SMALLEST_PATCH, Topology, fit

COVERED = 0.25
"""Of the median image that a patch is to see; else images get coarser."""
DEFAULT_MEMORY = 8192
"""MiB, as nnU-Net plans for."""
_MIB = 2**20
_FAR = 1_000_000.0
"""The CRD's bound of a window."""


class Unplannable(Exception):
    """Why there is no plan, in a sentence."""


@dataclass(frozen=True)
class Plan:
    spec: FederationSpec
    """With plain numbers, and nothing left to plan."""
    reasons: tuple[str, ...]
    """Why they are what they are: one sentence a field."""


def make_plan(spec: FederationSpec, fingerprints: Iterable[Fingerprint], heads: int) -> Plan:
    """Fill in what the spec leaves to the plan.

    Args:
        heads: how many organs the site with the most annotates; one where the head is shared.

    Raises:
        Unplannable
    """
    merged = merge(fingerprints)
    if merged is None:
        raise Unplannable(
            f"no site has {FLOOR} training cases or more, and of fewer nothing is told. Write the numbers "
            "into the manifest in place of plan: Auto."
        )
    reasons = [_who(merged)]
    spacing, why = _spacing(spec.preprocessing, merged)
    preprocessing = spec.preprocessing
    topology: Topology | None = None
    if spec.model.plan is not None:
        memory = spec.model.memory_mebibytes or DEFAULT_MEMORY
        topology, spacing, note = _topology(spec, merged, spacing, memory, heads)
        why += note
    if preprocessing.plan is not None:
        intensity, scaling = _intensity(merged, preprocessing.intensity.site_windows)
        preprocessing = Preprocessing(intensity, Spacing.RESAMPLED, spacing)
        reasons += [f"preprocessing.spacingMillimetres {_shown(spacing)}: {why}.", scaling]
    if topology is None:
        return Plan(msgspec.structs.replace(spec, preprocessing=preprocessing), tuple(reasons))
    reasons += _topology_reasons(topology, voxels_of(merged.extent, spacing), merged, memory)
    return Plan(_filled(spec, preprocessing, topology), tuple(reasons))


def _filled(spec: FederationSpec, preprocessing: Preprocessing, topology: Topology) -> FederationSpec:
    is_wide = all(kernel == (3, 3, 3) for kernel in topology.kernels)
    model = msgspec.structs.replace(
        spec.model,
        plan=None,
        memory_mebibytes=None,
        channels=topology.channels,
        strides=(2,) * len(topology.strides),
        axis_strides=None if topology.is_cubic else topology.strides,
        kernels=None if spec.model.preset is Preset.RESIDUAL_UNET or is_wide else topology.kernels,
        head_levels=min(spec.model.head_levels, len(topology.strides)),
    )
    training = msgspec.structs.replace(
        spec.training, patch=topology.patch, batch_size=topology.batch, crops_per_volume=1
    )
    return msgspec.structs.replace(spec, preprocessing=preprocessing, model=model, training=training)


def _who(merged: Merged) -> str:
    told = f"Planned from {merged.cases} training cases of {', '.join(merged.sites)}."
    if merged.withheld:
        told += f" Without {', '.join(merged.withheld)}: fewer than {FLOOR} cases, of which nothing is told."
    return told


def _spacing(preprocessing: Preprocessing, merged: Merged) -> tuple[Triple, str]:
    if preprocessing.plan is not None:
        return target_spacing(merged)
    return preprocessing.target_spacing or merged.spacing, "as the manifest says"


def _topology(
    spec: FederationSpec, merged: Merged, spacing: Triple, memory: int, heads: int
) -> tuple[Topology, Triple, str]:
    """With full features, else with half of them, else of coarser images, until a patch sees enough."""
    first = spacing
    while max(spacing) <= COARSEST:
        image = voxels_of(merged.extent, spacing)
        found = [
            fit(image, spacing, features, memory * _MIB, heads, merged.fewest_cases) for features in FEATURES
        ]
        enough = next((each for each in found if each and each.covers(image) >= COVERED), None)
        last = enough or next((each for each in reversed(found) if each), None)
        may_coarsen = spec.preprocessing.plan is not None and min(image) > SMALLEST_PATCH
        if last is not None and (enough or not may_coarsen):
            r, a, s = (round(each, 4) for each in spacing)
            note = (
                ""
                if spacing == first
                else (
                    f"; from {_shown(first)} made coarser by steps of 3 % until a patch that fits sees "
                    f"{COVERED:.0%} of the median image"
                )
            )
            return last, (r, a, s), note
        if not may_coarsen:
            raise Unplannable(
                f"no patch of the median image ({' × '.join(map(str, image))} voxels) fits {memory} MiB. "
                "Raise spec.model.memoryMebibytes."
            )
        spacing = coarser(spacing)
    raise Unplannable(
        f"images of {' × '.join(f'{each:.0f}' for each in merged.extent)} mm would have voxels of more than "
        f"{COARSEST:g} mm. Look at what the sites tell of their cases (sites/ALIAS/fingerprint.json)."
    )


def _intensity(merged: Merged, site_windows: bool) -> tuple[IntensityScaling, str]:
    if merged.hounsfield and merged.window is not None:
        low, high = (round(max(-_FAR, min(each, _FAR)), 1) for each in merged.window)
        if low < high:
            why = "every image has values below 0, as CT has: 0.5 and 99.5 percentile inside organs"
            said = f"preprocessing.intensity Window [{low:g}, {high:g}]: {why}."
            return IntensityScaling(Intensity.WINDOW, (low, high), site_windows), said
    why = "some image has no value below 0, so units differ: each image by its own mean and deviation"
    return IntensityScaling(Intensity.Z_SCORE), f"preprocessing.intensity ZScore: {why}."


def _topology_reasons(
    topology: Topology, image: tuple[int, int, int], merged: Merged, memory: int
) -> list[str]:
    strides = _halving(topology)
    return [
        f"training.patch {list(topology.patch)}: {topology.covers(image):.0%} of the median image of "
        f"{' × '.join(map(str, image))} voxels; a step holds {topology.bytes / _MIB:.0f} of {memory} MiB.",
        strides,
        f"model.channels {list(topology.channels)}: {topology.channels[0]} features at the top, twice as "
        "many a level, at most 320.",
        f"training.batchSize {topology.batch}, cropsPerVolume 1: at least 2; more only where they fit and "
        f"one batch sees at most 5 % of the {merged.fewest_cases} cases of the smallest site.",
    ]


def _halving(topology: Topology) -> str:
    levels = len(topology.strides)
    if topology.is_cubic:
        narrow = min(topology.patch) // 2**levels
        told = f"halved {levels} times, which leaves {narrow} voxels of the shortest edge"
        return f"model.strides {[2] * levels}: {told}."
    times = ", ".join(f"{topology.halved(axis)} along {name}" for axis, name in enumerate("RAS"))
    shown = [list(stride) for stride in topology.strides]
    return f"model.axisStrides {shown}: halved {times}; a coarse axis waits until the others are as coarse."


def _shown(spacing: Triple) -> str:
    return f"[{', '.join(f'{each:g}' for each in spacing)}]"
