"""Small NIfTI cases for tests of what reads data."""

from pathlib import Path

import nibabel as nib
import numpy as np

from segviz_exchange.contract.choices import Intensity, Layout, Spacing
from segviz_exchange.contract.site_spec import DataSet
from segviz_exchange.contract.spec import IntensityScaling, Preprocessing
from segviz_trainer.data.cache import PreparedCase, prepare_case
from segviz_trainer.data.layouts import Case

ORGANS = ("kidneys", "liver", "spleen")
SPACED = np.diag([2.0, 2.0, 3.0, 1.0])
WINDOWED = Preprocessing(
    intensity=IntensityScaling(method=Intensity.WINDOW, window=(-200.0, 300.0)), spacing=Spacing.NATIVE
)


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray = SPACED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def ramp(shape: tuple[int, int, int] = (8, 10, 6)) -> np.ndarray:
    """No two neighbours alike, within the window."""
    return (np.arange(np.prod(shape)) % 400 - 150).reshape(shape).astype(np.int16)


def liver_label(shape: tuple[int, int, int] = (8, 10, 6)) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[2:5, 3:7, 1:4] = 1
    return label


def write_case(
    folder: Path,
    image: np.ndarray | None = None,
    label: np.ndarray | None = None,
    affine: np.ndarray = SPACED,
    label_affine: np.ndarray | None = None,
    id: str = "a",
) -> Case:
    """A case that annotates the liver as 1, with 9 as background."""
    return Case(
        id,
        write_volume(folder / f"{id}-image.nii.gz", ramp() if image is None else image, affine),
        write_volume(
            folder / f"{id}-label.nii.gz",
            liver_label() if label is None else label,
            affine if label_affine is None else label_affine,
        ),
        "clinic",
        {"liver": (1,)},
        (9,),
    )


def data_set(layout: Layout, path: str = "set", **fields: object) -> DataSet:
    given: dict[str, object] = {"name": "clinic", "organs": {"liver": (1,)}, "background": ()}
    return DataSet(path=path, layout=layout, **(given | fields))


def prepared_cases(folder: Path, shape: tuple[int, int, int], count: int) -> tuple[PreparedCase, ...]:
    """CTs of noise, in each of which the organ lies elsewhere."""
    chance = np.random.default_rng(0)
    prepared = []
    for index in range(count):
        image = chance.integers(-200, 300, shape, dtype=np.int16)
        label = np.zeros(shape, np.uint8)
        label[2 + index : 6 + index, 3:9, 4:10] = 1
        case = write_case(folder, image, label, id=f"case{index}")
        prepared.append(prepare_case(case, WINDOWED, ORGANS, 64, folder / "cache"))
    return tuple(prepared)
