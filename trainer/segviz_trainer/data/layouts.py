"""The cases of a data set, found in the layout it was published in."""

import codecs
import csv
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from segviz_exchange.contract.choices import Layout
from segviz_exchange.contract.site_spec import DataSet
from segviz_trainer.dicom.study import files_below
from segviz_trainer.process.errors import BadDataSet

MAX_ID = 2**16
"""Label ids are smaller: they index tables."""


@dataclass(frozen=True)
class Case:
    """One image with its label map, as the site stores them."""

    id: str
    """Unique within its data set."""
    image: Path
    label: Path
    data_set: str
    organs: Mapping[str, tuple[int, ...]]
    """Label ids of each organ that this case's data set annotates."""
    background: tuple[int, ...]
    """Further label ids that count as background."""
    ignored: tuple[int, ...] = ()
    """Label ids whose voxels neither train nor score."""
    window: tuple[float, float] | None = None
    """The data set's own, for federations that allow one."""
    structures: Mapping[str, tuple[str, ...]] | None = None
    """Of DICOM alone, where `image` and `label` are its folder: names or codes of each organ's structures. If
    empty, each structure is an organ by itself."""

    def files(self) -> tuple[Path, ...]:
        """All that is read of it."""
        return (self.image, self.label) if self.structures is None else tuple(files_below(self.image))


@dataclass(frozen=True)
class _Found:
    id: str
    image: Path
    label: Path


class _MsdPair(msgspec.Struct):
    image: str
    label: str


class _MsdListing(msgspec.Struct):
    """The part of an MSD `dataset.json` that is read."""

    training: list[_MsdPair]
    modality: dict[str, str]


_OPEN_IT = "Give this user the right to read it, or check the volume"


def _closed(error: OSError) -> str:
    return f"cannot be read ({error.strerror})"


def find_cases(root: Path, data_set: DataSet, field: str) -> tuple[Case, ...]:
    """The cases of `data_set` below the volume's `root`, sorted by id and cut to `data_set.cases`.

    The range is cut before files are looked for, so a set that is labelled in part (KiTS19 from case_00210
    on is not) can be used. `field` is the data set's place in the manifest, such as `spec.dataSets[0]`.

    Raises:
        BadDataSet: the folder or a file is missing or closed, a listing is malformed, or an id occurs twice.
    """
    try:
        return _find_cases(root, data_set, field)
    except OSError as error:
        raise BadDataSet(
            f"{field}.path", Path(error.filename or root / data_set.path), _closed(error), _OPEN_IT
        ) from error


def listed_files(root: Path, data_set: DataSet, field: str) -> frozenset[Path]:
    """Images and labels of all cases of `data_set`, whatever its range."""
    folder = _inside(root, root / data_set.path, f"{field}.path")
    found = _LAYOUTS[data_set.layout](folder, f"{field}.path")
    return frozenset(file for each in found for file in (each.image, each.label))


def _find_cases(root: Path, data_set: DataSet, field: str) -> tuple[Case, ...]:
    _check_organs(data_set, root, field)
    folder = _inside(root, root / data_set.path, f"{field}.path")
    if not folder.is_dir():
        raise BadDataSet(
            f"{field}.path", folder, "is not a folder", "Correct the path, which is relative to the volume"
        )
    listed = sorted(_LAYOUTS[data_set.layout](folder, f"{field}.path"), key=lambda found: found.id)
    for before, after in itertools.pairwise(listed):
        if before.id == after.id:
            same = before.image == after.image
            what = "is listed twice" if same else f"and {before.image} are both case {after.id!r}"
            fix = "Remove one of the two entries" if same else "Rename or remove one of the two files"
            raise BadDataSet(f"{field}.path", after.image, what, fix)
    cut = data_set.cases
    if cut and cut.rotate_by and listed:
        first = cut.rotate_by % len(listed)
        listed = listed[first:] + listed[:first]
    chosen = listed[cut.start : cut.stop] if cut else listed
    if not chosen:
        raise BadDataSet(
            f"{field}.cases" if cut and listed else f"{field}.path",
            folder,
            f"has no case in the range (it lists {len(listed)})" if listed else "has no case",
            f"Check layout ({data_set.layout}) and range",
        )
    studies = data_set.layout is Layout.DICOM
    for found in chosen:
        for link in (file for file in files_below(found.image) if file.is_symlink()) if studies else ():
            _inside(root, link, f"{field}.path")
        for file in () if studies else (found.image, found.label):
            if not _inside(root, file, f"{field}.path").is_file():
                raise BadDataSet(
                    f"{field}.path",
                    file,
                    f"case {found.id!r} has no such file",
                    "Add it, or leave the case out by the range in cases (on the command line, --cases)",
                )
    return tuple(
        Case(
            found.id,
            found.image,
            found.label,
            data_set.name,
            # Of structures, the numbers that they will have.
            data_set.organs or {organ: (id_,) for id_, organ in enumerate(data_set.structures, start=1)},
            data_set.background,
            data_set.ignored,
            data_set.window,
            data_set.structures if studies else None,
        )
        for found in chosen
    )


def _check_organs(data_set: DataSet, root: Path, field: str) -> None:
    owners: dict[int, str] = {}
    others = (("background", data_set.background), ("ignored", data_set.ignored))
    for organ, ids in (*data_set.organs.items(), *others):
        for label_id in ids:
            if not 0 <= label_id < MAX_ID:
                raise BadDataSet(
                    f"{field}.organs",
                    root / data_set.path,
                    f"label id {label_id} is given to {organ!r}, outside of 1 to {MAX_ID - 1}",
                    "Renumber the label maps",
                )
            if label_id == 0 or label_id in owners:
                owner = owners.get(label_id, "background")
                raise BadDataSet(
                    f"{field}.organs",
                    root / data_set.path,
                    f"label id {label_id} is given to {organ!r} but is already {owner!r}",
                    "Give each id one meaning; 0 is always background",
                )
            owners[label_id] = organ


def _inside(root: Path, path: Path, field: str) -> Path:
    """`path`, unless it (or what a link in it points to) lies outside `root`."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise BadDataSet(field, path, f"leads out of the volume {root}", "Give a path inside the volume")
    return path


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".nii")


def is_volume(path: Path) -> bool:
    # MSD's archives carry macOS's `._name` files beside each volume.
    return path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")


def _find_msd(folder: Path, field: str) -> list[_Found]:
    listing_file = folder / "dataset.json"
    try:
        # Windows' editors put a byte order mark first.
        raw = listing_file.read_bytes().removeprefix(codecs.BOM_UTF8)
        listing = msgspec.json.decode(raw, type=_MsdListing)
    except OSError as error:
        raise BadDataSet(
            field, listing_file, f"cannot be read ({error.strerror})", "MSD data sets have one"
        ) from error
    except msgspec.DecodeError as error:
        if b'"channel_names"' in raw or (b'"numTraining"' in raw and b'"training"' not in raw):
            raise BadDataSet(
                field,
                listing_file,
                "is from nnU-Net (version 2), which lists no cases",
                "List them in a cases.csv with the columns image,label, and remove or rename this file",
            ) from error
        raise BadDataSet(field, listing_file, f"is malformed ({error})", "Use the published one") from error
    if len(listing.modality) != 1:
        raise BadDataSet(
            field,
            listing_file,
            f"has {len(listing.modality)} modalities ({', '.join(listing.modality.values())}) in 4-D images",
            "Give one 3-D volume per case and a single modality",
        )
    return [_Found(_stem(Path(p.image).name), folder / p.image, folder / p.label) for p in listing.training]


def _find_kits19(folder: Path, field: str) -> list[_Found]:
    cases = (path for path in folder.glob("case_*") if path.is_dir())
    return [_Found(path.name, path / "imaging.nii.gz", path / "segmentation.nii.gz") for path in cases]


def _find_btcv(folder: Path, field: str) -> list[_Found]:
    images = (path for path in (folder / "img").glob("img*") if is_volume(path))
    return [
        _Found(_stem(path.name).removeprefix("img"), path, folder / "label" / f"label{path.name[3:]}")
        for path in images
    ]


_HEADER = "Write image,label as its first line, with commas between columns"


def _header_fault(columns: Sequence[str]) -> str:
    names = ", ".join(map(repr, columns)) or "nothing"
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and separator in columns[0]:
            return f"separates columns by {name}: {columns[0]!r}"
    if any(column.strip().lower() in ("image", "label") for column in columns):
        return f"has the columns {names}, which are not written as image and label"
    return f"has no columns image and label, but {names}"


def _find_listed(folder: Path, field: str) -> list[_Found]:
    listing = folder / "cases.csv"
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            rows, columns = list(reader), tuple(reader.fieldnames or ())
    except OSError as error:
        raise BadDataSet(
            field,
            listing,
            f"cannot be read ({error.strerror})",
            "List the cases with the columns image,label",
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadDataSet(field, listing, f"is malformed ({error})", "Write it as UTF-8 CSV") from error
    if not {"image", "label"} <= set(columns):
        raise BadDataSet(field, listing, f"its first line {_header_fault(columns)}", _HEADER)
    found = []
    for number, row in enumerate(rows, start=2):
        image, label = row.get("image"), row.get("label")
        if not image or not label:
            raise BadDataSet(
                field, listing, f"row {number} has no image or no label", "Fill the columns image,label"
            )
        found.append(_Found(_stem(image), folder / image, folder / label))
    return found


def _find_studies(folder: Path, field: str) -> list[_Found]:
    """A folder a case, however deep its files lie."""
    folders = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [_Found(path.name, _inside(folder, path, field), path) for path in folders]


_LAYOUTS: dict[Layout, Callable[[Path, str], list[_Found]]] = {
    Layout.MSD: _find_msd,
    Layout.KITS19: _find_kits19,
    Layout.BTCV: _find_btcv,
    Layout.LIST: _find_listed,
    Layout.DICOM: _find_studies,
}
