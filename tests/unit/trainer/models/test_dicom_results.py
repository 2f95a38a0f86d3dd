"""What a prediction writes as DICOM, by format and by what it found."""

from pathlib import Path

import numpy as np
import pytest

from builders import read_back
from builders.dicom import planes, write_single
from segviz_trainer.models.dicom_results import open_source, write_dicom
from segviz_trainer.models.result_files import Format, Planned, plan_files

ORGANS = {"liver": 1, "spleen": 2}
ALL = tuple(Format)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return write_single(tmp_path / "series", planes())


def planned(series: Path, *formats: Format) -> Planned:
    return plan_files(series, series.parent / "out", (), formats)


def labels(*numbers: int) -> np.ndarray:
    """(columns, rows, slices) of the series, an organ a column."""
    found = np.zeros((4, 5, 6), np.uint8)
    for number in numbers:
        found[number, 1:4, 2:5] = number
    return found


@pytest.mark.parametrize("formats", [ALL, (Format.DICOM_SEG,), (Format.RTSTRUCT,)], ids=lambda f: "+".join(f))
def test_the_dicom_formats_that_are_asked_for_are_written(series: Path, formats: tuple[Format, ...]) -> None:
    files = planned(series, *formats)
    written, warnings = write_dicom(files, open_source(files, 64), labels(1, 2), ORGANS, "ab" * 32)
    assert written == [files.results[each] for each in formats if each is not Format.NIFTI]
    assert sorted((series.parent / "out").iterdir()) == sorted(written)
    assert warnings == []


def test_an_organ_that_is_not_found_is_left_out_and_named(series: Path) -> None:
    files = planned(series, *ALL)
    written, warnings = write_dicom(files, open_source(files, 64), labels(2), ORGANS, "ab" * 32)
    seg, rt = written
    for found in (read_back.segments(seg, series), read_back.contours(rt, series, (5, 4))):
        assert list(found) == ["spleen"]
        assert sum(int(mask.sum()) for mask in found["spleen"].values()) == 9
    assert warnings == ["not found, so not in its DICOM results: liver"]


def test_where_nothing_is_found_nothing_is_written(series: Path) -> None:
    files = planned(series, *ALL)
    assert write_dicom(files, open_source(files, 64), labels(), ORGANS, "ab" * 32) == (
        [],
        ["no organ was found, so it has no DICOM results"],
    )
    assert not list((series.parent / "out").iterdir())
