"""Label maps as an RT Structure Set (PS3.3 A.19): contours along the edges of the voxels."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from segviz_trainer.dicom.algorithm import NAME, Algorithm
from segviz_trainer.dicom.codes import category, code_item, coded, colour
from segviz_trainer.dicom.outlines import outlines
from segviz_trainer.dicom.slices import Slice
from segviz_trainer.dicom.source import PATIENT_AND_STUDY, Source, decimals

_SERIES_NUMBER = 9302
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: retired, and still what this sequence asks for."""
_CONTOUR_DATA = Tag("ContourData")
_ALSO = ("PatientAge", "PatientSize", "PatientWeight", "StudyDescription")


def structure_set_of(
    source: Source,
    labels: NDArray[np.uint8],
    numbers: Mapping[str, int],
    algorithm: Algorithm,
    now: datetime,
) -> Dataset:
    """A new object of the source's study.

    Args:
        labels: (columns, rows, slices), as the source's volume has them.
        numbers: what each organ is in `labels`; there is one, and each occurs.
        now: local time, as DICOM has it.
    """
    found = _identified(source, algorithm, now)
    found.StructureSetLabel = NAME
    found.StructureSetDescription = algorithm.sentence
    found.StructureSetDate, found.StructureSetTime = found.SeriesDate, found.SeriesTime
    found.ReferencedFrameOfReferenceSequence = Sequence([_references(source)])
    found.StructureSetROISequence = Sequence()
    found.ROIContourSequence = Sequence()
    found.RTROIObservationsSequence = Sequence()
    for number, (organ, label) in enumerate(numbers.items(), start=1):
        found.StructureSetROISequence.append(_region(number, organ, source, algorithm))
        found.ROIContourSequence.append(_contours(number, source, labels == label))
        found.RTROIObservationsSequence.append(_observation(number, organ))
    return found


def _identified(source: Source, algorithm: Algorithm, now: datetime) -> Dataset:
    """With what every object says of itself, its patient and its study."""
    found, meta = Dataset(), FileMetaDataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.SOPClassUID, found.SOPInstanceUID = RTStructureSetStorage, generate_uid(prefix=None)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = found.SOPClassUID, found.SOPInstanceUID
    # An explicit VR leaves 16 bits for the length of Contour Data: too few for a winding outline.
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    found.file_meta = meta
    for keyword, default in PATIENT_AND_STUDY.items():
        setattr(found, keyword, source.first.get(keyword, default))
    for keyword in _ALSO:
        if keyword in source.first:
            setattr(found, keyword, source.first.get(keyword))
    found.StudyInstanceUID = source.first.StudyInstanceUID
    found.FrameOfReferenceUID = source.first.FrameOfReferenceUID
    found.PositionReferenceIndicator = source.first.get("PositionReferenceIndicator", "")
    found.Modality, found.SeriesInstanceUID = "RTSTRUCT", generate_uid(prefix=None)
    found.SeriesNumber, found.InstanceNumber = _SERIES_NUMBER, 1
    found.SeriesDescription = f"{NAME} contours"
    found.OperatorsName = ""
    day, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    found.SeriesDate = found.InstanceCreationDate = day
    found.SeriesTime = found.InstanceCreationTime = time
    found.Manufacturer = found.ManufacturerModelName = NAME
    found.SoftwareVersions = algorithm.version
    found.DeviceSerialNumber = algorithm.digest.removeprefix("sha256:")
    found.ApprovalStatus = "UNAPPROVED"
    return found


def _references(source: Source) -> Dataset:
    """The frame of reference, with every image of the source."""
    frame, study, series = Dataset(), Dataset(), Dataset()
    frame.FrameOfReferenceUID = source.first.FrameOfReferenceUID
    study.ReferencedSOPClassUID = _STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = source.first.StudyInstanceUID
    series.SeriesInstanceUID = source.first.SeriesInstanceUID
    series.ContourImageSequence = Sequence(_reference(each) for each in source.instances())
    study.RTReferencedSeriesSequence = Sequence([series])
    frame.RTReferencedStudySequence = Sequence([study])
    return frame


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def _region(number: int, organ: str, source: Source, algorithm: Algorithm) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ROIName = number, organ
    item.ReferencedFrameOfReferenceUID = source.first.FrameOfReferenceUID
    item.ROIDescription = algorithm.sentence
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIGenerationDescription = f"{NAME} {algorithm.version}"
    item.ROIDerivationAlgorithmIdentificationSequence = algorithm.identification()
    return item


def _contours(number: int, source: Source, mask: NDArray[np.bool_]) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = number
    item.ROIDisplayColor = list(colour(number - 1))
    item.SourcePixelPlanesCharacteristicsSequence = Sequence([_planes(source)])
    item.ContourSequence = Sequence(
        _contour(source, each, polygon)
        for index, each in enumerate(source.slices)
        for polygon in outlines(mask[:, :, index].T)
    )
    for place, contour in enumerate(item.ContourSequence, start=1):
        contour.ContourNumber = place
    return item


def _contour(source: Source, each: Slice, polygon: NDArray[np.float64]) -> Dataset:
    item = Dataset()
    image = _reference(source.header(each))
    if each.frame is not None:
        image.ReferencedFrameNumber = each.frame + 1
    item.ContourImageSequence = Sequence([image])
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(polygon)
    item[_CONTOUR_DATA] = _written(_millimetres(each, polygon))
    return item


def _millimetres(each: Slice, polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """(points, 2) as (row, column) to (points, 3) in the patient, by the slice's own headers."""
    between_rows, between_columns = each.spacing
    along_row, along_column = each.directions
    rows, columns = polygon[:, :1], polygon[:, 1:]
    placed: NDArray[np.float64] = (
        each.position + columns * between_columns * along_row + rows * between_rows * along_column
    )
    return placed


def _written(points: NDArray[np.float64]) -> DataElement:
    """To a millionth of a millimetre, and as one text: pydicom takes seconds to check a million numbers."""
    text = "\\".join(f"{number:.6f}" for number in points.ravel().tolist())
    return DataElement(_CONTOUR_DATA, "DS", text, already_converted=True)


def _planes(source: Source) -> Dataset:
    """The voxels that the contours come from, for who wants them back."""
    first, item = source.slices[0], Dataset()
    item.PixelSpacing = decimals(first.spacing)
    (item.SpacingBetweenSlices,) = decimals(source.gap)
    item.ImageOrientationPatient = decimals(first.directions)
    item.ImagePositionPatient = decimals(first.position)
    item.NumberOfFrames = len(source.slices)
    item.Rows, item.Columns = first.rows, first.columns
    return item


def _observation(number: int, organ: str) -> Dataset:
    item, meant = Dataset(), coded(organ)
    item.ObservationNumber = item.ReferencedROINumber = number
    item.SegmentedPropertyCategoryCodeSequence = Sequence([code_item(category())])
    identified = code_item(meant.organ)
    if meant.side is not None:
        identified.SegmentedPropertyTypeModifierCodeSequence = Sequence([code_item(meant.side)])
    item.RTROIIdentificationCodeSequence = Sequence([identified])
    item.RTROIInterpretedType = "ORGAN" if meant.known else ""
    item.ROIInterpreter = ""
    return item
