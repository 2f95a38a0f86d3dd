"""The smallest images that something can be learnt from."""

from pathlib import Path

import nibabel as nib
import numpy as np

SIDE = 16


def write_cases(
    folder: Path, organs: tuple[str, ...], cases: int, seed: int, drawn: int | None = None
) -> None:
    """Bright cubes in noise, one brightness an organ; a cases.csv beside them.

    With `drawn`, only that organ (by its index) is in the labels, though all are in the images.
    """
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    rows = ["image,label"]
    for case in range(cases):
        image = chance.normal(0, 1, (SIDE, SIDE, SIDE)).astype(np.float32)
        label = np.zeros((SIDE, SIDE, SIDE), np.uint8)
        for index in range(len(organs)):
            x, y, z = chance.integers(0, SIDE - 6, 3)
            label[x : x + 6, y : y + 6, z : z + 6] = index + 1
            image[label == index + 1] += 4 * (index + 1)
        if drawn is not None:
            label[label != drawn + 1] = 0
        for name, array in (("image", image), ("label", label)):
            nifti = nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0]))
            nib.save(nifti, folder / f"{name}{case:02d}.nii.gz")
        rows.append(f"image{case:02d}.nii.gz,label{case:02d}.nii.gz")
    folder.joinpath("cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
