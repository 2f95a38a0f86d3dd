"""What an organ is called in SNOMED CT, so that a viewer knows it whatever its label's language."""

import colorsys
import re
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

_GENERIC = "AnatomicalStructure"
_ORGANS = {
    "adrenal": "AdrenalGland",
    "adrenal gland": "AdrenalGland",
    "aorta": "Aorta",
    "bladder": "Bladder",
    "brain": "Brain",
    "colon": "Colon",
    "duodenum": "Duodenum",
    "esophagus": "Esophagus",
    "femur": "Femur",
    "gall bladder": "Gallbladder",
    "gallbladder": "Gallbladder",
    "heart": "Heart",
    "hippocampus": "Hippocampus",
    "inferior vena cava": "InferiorVenaCava",
    "ivc": "InferiorVenaCava",
    "kidney": "Kidney",
    "liver": "Liver",
    "lung": "Lung",
    "oesophagus": "Esophagus",
    "pancreas": "Pancreas",
    "portal vein": "PortalVein",
    "postcava": "InferiorVenaCava",
    "prostate": "Prostate",
    "rectum": "Rectum",
    "small bowel": "SmallIntestine",
    "small intestine": "SmallIntestine",
    "spinal cord": "SpinalCord",
    "spleen": "Spleen",
    "splenic vein": "SplenicVein",
    "stomach": "Stomach",
    "thyroid": "Thyroid",
    "trachea": "Trachea",
    "urinary bladder": "Bladder",
    "uterus": "Uterus",
}
"""Keywords of pydicom's dictionary, by the names in use."""
_PAIRED = {"AdrenalGland", "Femur", "Hippocampus", "Kidney", "Lung"}
_PLURALS = {"hippocampi": "hippocampus", "femurs": "femur", "femora": "femur"}
_SIDES = {"left": "Left", "l": "Left", "right": "Right", "r": "Right", "both": "Bilateral"}
_GOLDEN = 0.618034
"""Of a turn: hues that far apart never come close to each other."""


@dataclass(frozen=True)
class Coded:
    """A code of an organ, and of its side where the name tells it."""

    organ: Code
    side: Code | None = None

    @property
    def known(self) -> bool:
        return self.organ.value != _code(_GENERIC).value


def coded(organ: str) -> Coded:
    """By an organ's name in English, such as `liver`, `kidney_left` or `Left Kidney`; `kidneys` are both.

    A name that is not known is an anatomical structure, no more: its name says the rest.
    """
    words = re.findall(r"[a-z]+", organ.lower())
    sides = {_SIDES[word] for word in words if word in _SIDES}
    name = " ".join(word for word in words if word not in _SIDES)
    keyword = _ORGANS.get(name)
    if keyword is None and (single := _ORGANS.get(_PLURALS.get(name, name.removesuffix("s")))) in _PAIRED:
        keyword, sides = single, sides or {"Bilateral"}
    if keyword is None or len(sides) > 1 or (sides and keyword not in _PAIRED) or re.search(r"\d", organ):
        return Coded(_code(_GENERIC))
    return Coded(_code(keyword), *(_code(side) for side in sides))


def code_item(code: Code) -> Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def category() -> Code:
    """Of everything that is segmented here."""
    return _code(_GENERIC)


def artificial_intelligence() -> Code:
    """The family of the algorithm."""
    family: Code = codes.DCM.ArtificialIntelligence
    return family


def colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue to 255, for the organ of this number."""
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1.0, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _code(keyword: str) -> Code:
    found: Code = getattr(codes.SCT, keyword)
    return found
