"""What lies among a data set's files and belongs to no case: said by name, since nobody misses a file."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from segviz_exchange.contract.choices import Layout
from segviz_exchange.contract.site_spec import DataSet
from segviz_trainer.data.layouts import is_volume, listed_files

_VOLUMES = (".nii", ".nii.gz", ".img", ".hdr", ".mha", ".mhd", ".nrrd", ".mgz", ".dcm")
_SHOWN = 3


def left_out(root: Path, data_set: DataSet) -> tuple[str, ...]:
    """A sentence for each kind of file beside the cases' own that is not read."""
    used = listed_files(root, data_set, data_set.name)
    if data_set.layout is Layout.DICOM:
        beside = [path for path in sorted((root / data_set.path).iterdir()) if path not in used]
        return (
            *_told("files", [each.name for each in beside if not each.is_dir()], "in no folder of a case"),
            *_told("folders", [each.name for each in beside if each.is_dir()], "hidden"),
        )
    beside = sorted({file.parent for file in used if file.parent.is_dir()})
    others = [path for folder in beside for path in sorted(folder.iterdir()) if path not in used]
    told = unread(others, f"in no case of the layout {data_set.layout}")
    if data_set.layout is not Layout.KITS19:
        return told
    folders = [each.name for each in sorted((root / data_set.path).iterdir()) if each.is_dir()]
    foreign = [name for name in folders if not name.startswith(("case_", "."))]
    return told + _told("folders", foreign, "not called case_*")


def unread(paths: Iterable[Path], reason: str) -> tuple[str, ...]:
    """Of files that look like images; `reason` says why the well-named ones among them are not read."""
    volumes = [path for path in paths if path.name.lower().endswith(_VOLUMES)]
    hidden = [path.name for path in volumes if path.name.startswith(".")]
    visible = [path for path in volumes if not path.name.startswith(".")]
    odd = [path.name for path in visible if not is_volume(path)]
    good = [path.name for path in visible if is_volume(path)]
    return (
        *_told("files", hidden, "hidden, as macOS leaves them"),
        *_told("files", odd, "not ending in .nii or .nii.gz (small letters)"),
        *_told("files", good, reason),
    )


def _told(what: str, names: Sequence[str], reason: str) -> tuple[str, ...]:
    if not names:
        return ()
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    return (f"left out: {len(names)} {what if len(names) > 1 else what[:-1]}, {reason}: {shown}",)
