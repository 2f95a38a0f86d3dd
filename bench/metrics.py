"""HD95 and NSD of one organ, ours beside MONAI's two calls and DeepMind's surface-distance.

    python bench/metrics.py [--surface-distance-python .surface/bin/python]

A made-up case of 512x512x100 voxels (0.75 x 0.75 x 2.5 mm) with five organs of a body's size and place, and a
prediction of each that is off by a few millimetres in places. Masks are in memory; what is timed is from two
masks to HD95 and NSD. The peers take turns with ours; the script fails where a number differs from MONAI's.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from numpy.typing import NDArray
from scipy import ndimage

from segviz_trainer.metrics.agreement import agreement
from segviz_trainer.metrics.overlap import Mask

SHAPE, SPACING, TOLERANCE = (512, 512, 100), (0.75, 0.75, 2.5), 3.0
# Centre and radii in voxels.
ORGANS = {
    "liver": ((180, 220, 60), (110, 90, 32)),
    "spleen": ((380, 300, 65), (45, 50, 20)),
    "kidney left": ((340, 320, 40), (35, 35, 22)),
    "kidney right": ((190, 330, 36), (35, 35, 22)),
    "pancreas": ((270, 200, 50), (60, 25, 12)),
}
Scores = tuple[float, float]
PEER = """
import json, sys, time
import numpy as np
import surface_distance as sd
masks, repeats = np.load(sys.argv[1]), int(sys.argv[2])
for organ in json.loads(sys.argv[3]):
    truth, found = masks[organ + "/truth"], masks[organ + "/found"]
    for _ in range(repeats):
        began = time.perf_counter()
        distances = sd.compute_surface_distances(truth, found, (0.75, 0.75, 2.5))
        hd95 = sd.compute_robust_hausdorff(distances, 95)
        nsd = sd.compute_surface_dice_at_tolerance(distances, 3.0)
        print(json.dumps([organ, time.perf_counter() - began]), flush=True)
"""


def field(seed: int) -> NDArray[np.float32]:
    """Smooth noise of unit variance."""
    noise = np.random.default_rng(seed).standard_normal((32, 32, 20)).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, 2)
    return np.asarray(ndimage.zoom(noise / noise.std(), (16, 16, 5), order=1), np.float32)


def make_case() -> dict[str, tuple[Mask, Mask]]:
    """Prediction and truth of each organ."""
    lumps, errors = field(1), field(2)
    at = np.indices(SHAPE, dtype=np.float32)
    case = {}
    for organ, (centre, radii) in ORGANS.items():
        inside = 1 - sum(((at[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(3)) + 0.3 * lumps
        case[organ] = (np.asarray(inside + 0.1 * errors > 0), np.asarray(inside > 0))
    return case


def ours(prediction: Mask, truth: Mask) -> Scores:
    agreed = agreement(prediction, truth, SPACING, TOLERANCE)
    return agreed.hd95, agreed.nsd


def monais(prediction: Mask, truth: Mask) -> Scores:
    found, there = torch.from_numpy(prediction)[None, None], torch.from_numpy(truth)[None, None]
    hd95 = compute_hausdorff_distance(found, there, include_background=True, percentile=95, spacing=SPACING)
    nsd = compute_surface_dice(found, there, [TOLERANCE], include_background=True, spacing=SPACING)
    return float(hd95), float(nsd)


def timed(work: Callable[[Mask, Mask], Scores], case: tuple[Mask, Mask]) -> tuple[float, Scores]:
    began = time.perf_counter()
    scores = work(*case)
    return time.perf_counter() - began, scores


def peer_seconds(python: Path, case: dict[str, tuple[Mask, Mask]], repeats: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.npz"
        masks: dict[str, Any] = {f"{organ}/found": found for organ, (found, _) in case.items()}
        masks |= {f"{organ}/truth": truth for organ, (_, truth) in case.items()}
        np.savez(path, **masks)
        command = [str(python), "-c", PEER, str(path), str(repeats), json.dumps(list(case))]
        output = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    seconds: dict[str, list[float]] = {organ: [] for organ in case}
    for line in output.splitlines():
        organ, taken = json.loads(line)
        seconds[organ].append(taken)
    return seconds


@click.command()
@click.option("--repeats", default=5, show_default=True)
@click.option("--surface-distance-python", "peer", type=click.Path(exists=True, path_type=Path))
def main(repeats: int, peer: Path | None) -> None:
    """Time every organ and print the table."""
    warnings.simplefilter("ignore")
    case = make_case()
    third = peer_seconds(peer, case, repeats) if peer else {}
    print("| organ | voxels | Dice | MONAI, ms | surface-distance, ms | SegViz, ms | x MONAI (range) |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    ratios = {}
    for organ, masks in case.items():
        pairs = [(timed(monais, masks), timed(ours, masks)) for _ in range(repeats)]
        for (_, theirs), (_, mine) in pairs:
            if not np.allclose(theirs, mine, rtol=1e-6, atol=1e-6):
                sys.exit(f"{organ}: MONAI says {theirs}, we say {mine}")
        each = [theirs / mine for (theirs, _), (mine, _) in pairs]
        ratios[organ] = statistics.median(each)
        slow, fast = (statistics.median(pair[which][0] for pair in pairs) for which in (0, 1))
        other = f"{1000 * statistics.median(third[organ]):.0f}" if organ in third else "-"
        dice = agreement(*masks, SPACING, TOLERANCE).dice
        print(
            f"| {organ} | {int(masks[1].sum()):,} | {dice:.3f} | {1000 * slow:.0f} | {other} "
            f"| {1000 * fast:.0f} | {ratios[organ]:.1f} ({min(each):.1f}–{max(each):.1f}) |",
            flush=True,
        )
    print(
        f"\nMedian over organs {statistics.median(ratios.values()):.1f}, minimum {min(ratios.values()):.1f}."
    )


if __name__ == "__main__":
    main()
