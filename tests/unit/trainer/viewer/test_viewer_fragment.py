import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from builders.viewed import ball, body, viewed
from segviz_trainer.viewer.case import Modality
from segviz_trainer.viewer.fragment import case_fragment, script_source, viewer_assets

EVIL = "</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


class Parsed(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def notes(fragment: str) -> str:
    found = re.search(r'<p class="notes">(.*?)</p>', fragment)
    assert found is not None
    return found[1]


def test_titles_and_organs_are_text_and_nothing_else() -> None:
    liver = ball((8, 10, 8), 4)
    evil = viewed(title=EVIL, organs=(EVIL,), truth={EVIL: liver}, prediction={EVIL: liver})
    good = viewed(title="t", organs=("o",), truth={"o": liver}, prediction={"o": liver})
    parsed = Parsed(case_fragment(evil))
    assert parsed.tags == Parsed(case_fragment(good)).tags
    assert parsed.texts.count(EVIL) >= 3
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]


def test_a_page_asks_nobody_for_anything() -> None:
    html = viewer_assets() + case_fragment(viewed())
    for asking in ("http", "@import", "url(", "fetch(", "XMLHttpRequest", "import("):
        assert asking not in html
    sources = [value for name, value in Parsed(html).attributes if name in ("src", "href", "srcset")]
    assert len(sources) == 6
    assert all(value is not None and value.startswith("data:image/png;base64,") for value in sources)


def test_a_page_can_allow_this_script_alone() -> None:
    (script,) = re.findall(r"<script>(.*)</script>", viewer_assets(), re.DOTALL)
    assert (
        script_source() == f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    )


def test_what_the_script_reads_is_json_and_base64() -> None:
    fragment = case_fragment(viewed())
    (about,) = re.findall(r'class="about">(.*?)</script>', fragment)
    (voxels,) = re.findall(r'class="voxels">(.*?)</script>', fragment)
    known = json.loads(about)
    assert known["positions"][2] == 100.0
    assert known["spacing"] == [1.0, 1.0, 3.0]
    base64.b64decode(voxels, validate=True)


def test_a_typical_abdomen_takes_three_megabytes_at_most_and_keeps_every_voxel() -> None:
    shape = (122, 101, 112)
    noise = np.random.default_rng(0).normal(0, 25, shape).round()
    liver = ball((40, 50, 70), 30, shape)
    fragment = case_fragment(
        viewed(
            image=noise.astype(np.float32),
            spacing=(3.0, 3.0, 3.0),
            truth={"liver": liver},
            prediction={"liver": np.roll(liver, 2, axis=1)},
        )
    )
    assert len(fragment) <= 3_000_000
    assert notes(fragment).startswith("122 × 101 × 112 voxels of 3 × 3 × 3 mm. Values ")
    assert "in steps of 1." in notes(fragment)


def test_a_larger_image_says_what_was_done_to_it() -> None:
    shape = (120, 120, 112)
    image = np.random.default_rng(0).integers(-900, 3000, shape).astype(np.float32)
    liver = ball((60, 60, 56), 50, shape)
    fragment = case_fragment(
        viewed(image=image, spacing=(0.8, 0.8, 0.8), truth={"liver": liver}, prediction={}, origin=None)
    )
    assert len(fragment) <= 3_000_000
    said = notes(fragment)
    assert "Averaged to 1.6 × 1.6 × 1.6 mm for this page; scores are of the image itself" in said
    assert "HU in steps of 2." in said
    assert "Not predicted: liver" in said
    assert "Positions are counted from the first voxel" in said


def test_an_organ_that_nobody_annotated_is_said() -> None:
    liver = ball((8, 10, 8), 4)
    fragment = case_fragment(viewed(truth={}, prediction={"liver": liver}))
    assert "Not annotated in this case: liver" in notes(fragment)


def test_windows_are_those_of_the_modality() -> None:
    assert "Soft tissue (−150 to 250)" in case_fragment(viewed())
    image = np.linspace(0, 100, body().size, dtype=np.float32).reshape(body().shape)
    assert "1–99 % (1 to 99)" in case_fragment(viewed(image=image, modality=Modality.OTHER))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truth": {"pancreas": ball((8, 10, 8), 4)}}, "'pancreas' is not one of the organs"),
        ({"truth": {"liver": np.zeros((2, 2, 2), bool)}}, "liver has the shape"),
        ({"image": np.full(body().shape, np.nan, np.float32)}, "finite values"),
    ],
)
def test_what_does_not_fit_together_is_not_drawn(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        viewed(**changes)


def test_a_flat_image_without_any_organ_is_drawn() -> None:
    flat = np.zeros((5, 4, 1), np.float32)
    for modality in Modality:
        fragment = case_fragment(viewed(image=flat, truth={}, prediction={}, modality=modality))
        assert "axial, slice 1 of 1" in fragment
