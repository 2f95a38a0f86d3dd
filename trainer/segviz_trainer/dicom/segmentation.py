"""Label maps as DICOM-SEG (PS3.3 A.51), written by highdicom: one binary segment an organ."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
from highdicom.color import CIELabColor
from highdicom.content import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.enum import CoordinateSystemNames
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, generate_uid

from segviz_trainer.dicom.algorithm import NAME, Algorithm
from segviz_trainer.dicom.codes import category, code_item, coded, colour
from segviz_trainer.dicom.slices import Slice
from segviz_trainer.dicom.source import PATIENT_AND_STUDY, Source, decimals
from segviz_trainer.process.errors import BadCase

_SERIES_NUMBER = 9301
_PATIENT = CoordinateSystemNames.PATIENT


def check_segmentable(folder: Path, source: Source) -> None:
    """Raises BadCase where highdicom has no way to refer to the series' images."""
    files = {each.file for each in source.slices}
    if any(each.frame is not None for each in source.slices) and len(files) > 1:
        raise BadCase(
            folder,
            f"is a series of {len(files)} multi-frame files, which a DICOM-SEG cannot refer to",
            "Write rtstruct or nifti, or store the series as one file",
        )
    if UID(source.first.SOPClassUID).is_private:
        raise BadCase(
            folder,
            f"holds images of a private kind ({source.first.SOPClassUID}), which no DICOM-SEG refers to",
            "Write rtstruct or nifti",
        )


def segmentation_of(
    source: Source, labels: NDArray[np.uint8], numbers: Mapping[str, int], algorithm: Algorithm
) -> Dataset:
    """A new object of the source's study.

    Args:
        labels: (columns, rows, slices), as the source's volume has them.
        numbers: what each organ is in `labels`; there is one, and each occurs. Whatever has no organ's number
            is left out.
    """
    dense = np.zeros(256, np.uint8)
    dense[list(numbers.values())] = np.arange(1, len(numbers) + 1)
    planes = dense[labels.transpose(2, 1, 0)]
    images, order = _images(source)
    found = Segmentation(
        source_images=images,
        pixel_array=planes[order],
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(number, organ, algorithm) for number, organ in enumerate(numbers, start=1)
        ],
        series_instance_uid=generate_uid(prefix=None),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=algorithm.version,
        device_serial_number=algorithm.digest.removeprefix("sha256:"),
        content_label="SEGVIZ",
        content_description=f"{NAME} {algorithm.version}: {len(numbers)} organs",
        specific_character_set="ISO_IR 192",
        series_description=f"{NAME} segmentation",
    )
    for segment in found.SegmentSequence:
        side = coded(segment.SegmentLabel).side
        segment.SegmentDescription = algorithm.sentence
        if side is not None:
            item = segment.SegmentedPropertyTypeCodeSequence[0]
            item.SegmentedPropertyTypeModifierCodeSequence = [code_item(side)]
    return found


def _description(number: int, organ: str, algorithm: Algorithm) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=organ,
        segmented_property_category=category(),
        segmented_property_type=coded(organ).organ,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm.identification(),
        display_color=CIELabColor.from_rgb(*colour(number - 1)),
    )


def _images(source: Source) -> tuple[list[Dataset], list[int]]:
    """What highdicom is told of the images, and the order of their planes.

    Not the files' own headers: highdicom takes one spacing and one orientation from wherever it expects them,
    where a series may have them elsewhere. Ours are those that the volume was read with.
    """
    if source.slices[0].frame is None:
        return [_single(source, each) for each in source.slices], list(range(len(source.slices)))
    order = sorted(range(len(source.slices)), key=lambda number: source.slices[number].frame or 0)
    image = _described(source, source.first)
    shared = Dataset()
    shared.PixelMeasuresSequence = _measures(source)
    shared.PlaneOrientationSequence = PlaneOrientationSequence(
        _PATIENT, source.slices[0].directions.ravel().tolist()
    )
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    image.PerFrameFunctionalGroupsSequence = Sequence([_frame(source.slices[number]) for number in order])
    image.NumberOfFrames = len(order)
    return [image], order


def _single(source: Source, each: Slice) -> Dataset:
    image = _described(source, source.header(each))
    (measures,) = _measures(source)
    image.PixelSpacing, image.SliceThickness = measures.PixelSpacing, measures.SliceThickness
    image.SpacingBetweenSlices = measures.SpacingBetweenSlices
    image.ImageOrientationPatient = decimals(source.slices[0].directions)
    image.ImagePositionPatient = decimals(each.position)
    return image


def _frame(each: Slice) -> Dataset:
    group = Dataset()
    group.PlanePositionSequence = PlanePositionSequence(_PATIENT, each.position.tolist())
    return group


def _described(source: Source, header: Dataset) -> Dataset:
    image = Dataset()
    image.update(
        {
            element.tag: deepcopy(element)
            for element in header
            if element.VR != "SQ" and not element.tag.is_private
        }
    )
    for keyword, default in PATIENT_AND_STUDY.items():
        if keyword not in image:
            setattr(image, keyword, default)
    image.file_meta = header.file_meta
    return image


def _measures(source: Source) -> PixelMeasuresSequence:
    return PixelMeasuresSequence(
        pixel_spacing=source.slices[0].spacing,
        slice_thickness=source.gap,
        spacing_between_slices=source.gap,
    )
