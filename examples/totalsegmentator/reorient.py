"""Predict one CT stored in three ways, map the labels back, and compare them.

    python examples/totalsegmentator/reorient.py --model MODEL --image ct.nii.gz --label seg.nii.gz

Also scores the label map (after overlaps are resolved) against the truth, on the native grid.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import nibabel as nib
import numpy as np
import torch

from segviz_trainer.metrics.overlap import dice
from segviz_trainer.models.predict import predict_files
from segviz_trainer.models.trained import Model, TrainedModel

nibabel: Any = nib  # carries types for a part of itself
axes = nibabel.orientations
STORED = ("RAS", "LPS", "SAR")
IDS = {"spleen": 1, "kidney-right": 2, "kidney-left": 3, "liver": 5, "pancreas": 10}
FLOORS = dict.fromkeys(IDS, 0.9) | {"pancreas": 0.8}


@click.command()
@click.option("--model", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--image", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--label", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--threads", default=2, show_default=True)
def main(model: Path, image: Path, label: Path, threads: int) -> None:
    """Fail where the labels differ, or an organ's Dice is too low."""
    loaded = Model(TrainedModel.open(model), torch.device("cpu"), threads)
    original, truth = nibabel.load(image), np.asarray(nibabel.load(label).dataobj)
    upright = axes.io_orientation(original.affine)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for stored in STORED:
            turn = axes.ornt_transform(upright, axes.axcodes2ornt(stored))
            path = Path(folder) / f"{stored}.nii.gz"
            nibabel.save(original.as_reoriented(turn), path)
            (written,) = predict_files(
                loaded, [path], Path(folder) / "out", False, lambda i, done, all_: None
            )
            back = axes.ornt_transform(axes.axcodes2ornt(stored), upright)
            found[stored] = np.asarray(nibabel.load(written.files[0]).as_reoriented(back).dataobj)
    different = {stored: int((labels != found[STORED[0]]).sum()) for stored, labels in found.items()}
    print("voxels that differ from the first:", different)
    low = []
    for index, organ in enumerate(loaded.trained.organs, start=1):
        score = dice(found[STORED[0]] == index, truth == IDS[organ])
        print(f"{organ:13} {score:.3f}")
        low += [organ] if score <= FLOORS[organ] else []
    if any(different.values()) or low:
        sys.exit(f"failed: {different}, too low: {low}")


if __name__ == "__main__":
    main()
