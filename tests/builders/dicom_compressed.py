"""The series of `builders.dicom`, compressed frame by frame by GDCM."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import gdcm
import pydicom
from pydicom.encaps import encapsulate, generate_frames

from builders.dicom import Plane, write_enhanced, write_single

SYNTAXES = {
    "JPEGBaselineProcess1": "1.2.840.10008.1.2.4.50",
    "JPEGExtendedProcess2_4": "1.2.840.10008.1.2.4.51",
    "JPEGLosslessProcess14": "1.2.840.10008.1.2.4.57",
    "JPEGLosslessProcess14_1": "1.2.840.10008.1.2.4.70",
    "JPEGLSLossless": "1.2.840.10008.1.2.4.80",
    "JPEGLSNearLossless": "1.2.840.10008.1.2.4.81",
    "JPEG2000Lossless": "1.2.840.10008.1.2.4.90",
    "JPEG2000": "1.2.840.10008.1.2.4.91",
}
"""By GDCM's names."""


def frame_of(plane: Plane, syntax: str) -> bytes:
    """The plane's stored numbers, compressed as `syntax`."""
    with TemporaryDirectory() as name:
        source, target = write_single(Path(name, "plain"), [plane]) / "IM0000.dcm", Path(name, "packed.dcm")
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(source))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change(), f"{syntax} has no room for {plane.bits}"
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(target))
        assert writer.Write()
        (frame,) = generate_frames(pydicom.dcmread(target).PixelData, number_of_frames=1)
        return frame


def compressed(
    write: Callable[..., Path],
    folder: Path,
    given: Sequence[Plane],
    syntax: str,
    change: Callable[[list[bytes]], list[bytes]] = lambda frames: frames,
) -> Path:
    """A series by `write_single` or `write_enhanced` whose frames are compressed; `change` may spoil them.

    A file of one slice has a list of one frame.
    """
    assert write in (write_single, write_enhanced)
    write(folder, given)
    frames = [frame_of(plane, syntax) for plane in given]
    for number, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        of_file = frames if write is write_enhanced else [frames[number]]
        dataset.PixelData = encapsulate(change(of_file))
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
        dataset.save_as(path)
    return folder
