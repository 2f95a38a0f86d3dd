"""Which SNOMED CT code an organ's name has."""

import numpy as np
import pytest

from segviz_trainer.dicom.codes import coded, colour

KNOWN = {
    "liver": ("10200004", None),
    "Spleen": ("78961009", None),
    "pancreas": ("15776009", None),
    "stomach": ("69695003", None),
    "gallbladder": ("28231008", None),
    "gall_bladder": ("28231008", None),
    "aorta": ("15825003", None),
    "inferior_vena_cava": ("64131007", None),
    "oesophagus": ("32849002", None),
    "duodenum": ("38848004", None),
    "urinary_bladder": ("89837001", None),
    "kidney": ("64033007", None),
    "kidneys": ("64033007", "51440002"),
    "kidney_left": ("64033007", "7771000"),
    "Right Kidney": ("64033007", "24028007"),
    "left kidneys": ("64033007", "7771000"),
    "adrenal_gland_right": ("23451007", "24028007"),
    "lungs": ("39607008", "51440002"),
}
UNKNOWN = ["anterior", "tumour", "left liver", "kidney left right", "liver 2", "kidney cyst", "Leber"]


@pytest.mark.parametrize(("name", "meant"), KNOWN.items(), ids=KNOWN)
def test_a_known_organ_has_its_code_and_its_side(name: str, meant: tuple[str, str | None]) -> None:
    found = coded(name)
    assert (found.organ.value, found.side and found.side.value) == meant
    assert found.known


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_says_something_else_is_an_anatomical_structure(name: str) -> None:
    found = coded(name)
    assert (found.organ.value, found.side, found.known) == ("91723000", None, False)


def test_neighbouring_organs_differ_in_colour() -> None:
    colours = np.array([colour(number) for number in range(13)])
    assert colours.min() >= 0
    assert colours.max() <= 255
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 150
