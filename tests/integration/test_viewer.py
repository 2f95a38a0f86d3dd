"""The viewer in a real browser: its script, keys, touch, and the page without a script."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from builders.viewed import SHAPE, viewed
from integration.browser import Browser, open_browser
from segviz_trainer.viewer.case import ViewedCase
from segviz_trainer.viewer.fragment import case_fragment, script_source, viewer_assets
from segviz_trainer.viewer.packing import fit
from segviz_trainer.viewer.stills import area, cut, outline

# A picture as text: what is drawn, whatever the size of the window.
PICTURE = "document.querySelector('canvas').toDataURL()"
PLACE = "document.querySelector('.place').textContent"
PATHS = "[...document.querySelectorAll('.stage path')].map(path => path.getAttribute('d'))"
READY = "document.querySelector('.viewer.on')"
PAGE = Markup(
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; img-src data:; script-src {}\">"
    '<link rel="icon" href="data:,"><title>viewer</title></head><body>{}{}</body></html>'
)


def ramp_case() -> ViewedCase:
    """Every slice of every plane differs, and within the first window."""
    x, y, z = np.indices(SHAPE)
    return viewed(image=(5 * x + 4 * y + 3 * z - 100).astype(np.float32))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(
        PAGE.format(script_source(), case_fragment(ramp_case()), viewer_assets()), encoding="utf-8"
    )
    return path


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.open(page)
    browser.wait_for(READY)
    browser.evaluate("document.querySelector('.slice').focus()")
    return browser


def test_keys_scroll_through_all_slices(opened: Browser) -> None:
    # The case's truth and prediction differ most in the slice through the ball's lower end.
    seen = {opened.evaluate(PICTURE)}
    for key, slice_ in (("Home", 1), ("ArrowUp", 2), ("End", 16), ("PageDown", 6)):
        opened.press(key)
        assert opened.evaluate(PLACE) == f"Slice {slice_} of 16, z = {100 + 3 * (slice_ - 1)}.0 mm"
        seen.add(opened.evaluate(PICTURE))
    assert len(seen) >= 4
    jumped = opened.evaluate("JSON.parse(document.querySelector('.about').textContent).jump[2]")
    opened.press("d")
    assert opened.evaluate(PLACE).startswith(f"Slice {jumped + 1} ")


def test_planes_turn_and_say_their_sides(opened: Browser) -> None:
    sides = "[...document.querySelectorAll('.stage b')].map(letter => letter.textContent).join('')"
    for key, expected, axis in (("c", "RLSI", "y"), ("s", "APSI", "x"), ("a", "RLAP", "z")):
        opened.press(key)
        assert opened.evaluate(sides) == expected
        assert f" {axis} = " in opened.evaluate(PLACE)


def test_pixels_and_outlines_are_those_of_the_case(opened: Browser) -> None:
    case = ramp_case()
    drawn, _ = fit(case)
    for key, axis in (("a", 2), ("c", 1), ("s", 0)):
        opened.press(key)
        at = drawn.jump[axis]
        grey = (cut(case.image, axis, at) + 150) / 400 * 255
        shown = opened.evaluate(
            "(c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])"
            "(document.querySelector('canvas'))"
        )
        pixels = np.array(shown).reshape(*grey.shape, 4)
        assert np.abs(pixels[..., 0] - grey).max() <= 0.5 + 1e-9
        expected = []
        for organ in range(2):
            expected.append(area(cut(drawn.mask(drawn.prediction, organ), axis, at)))
            expected.append(outline(cut(drawn.mask(drawn.truth, organ), axis, at)))
        assert opened.evaluate(PATHS) == expected


def test_overlays_and_organs_go_on_and_off(opened: Browser) -> None:
    both = opened.evaluate(PATHS)
    assert both[0]
    assert both[1]
    opened.press("o")
    assert opened.evaluate(PATHS) == [""] * 4
    opened.press("t")
    assert opened.evaluate(PATHS) == ["", both[1], "", both[3]]
    opened.press("p")
    assert opened.evaluate(PATHS) == both
    opened.click("input.organ")
    assert opened.evaluate(PATHS) == ["", "", *both[2:]]


def test_windows_change_the_grey_values(opened: Browser) -> None:
    soft = opened.evaluate(PICTURE)
    opened.press("w")
    assert opened.evaluate("document.querySelector('.preset').value") == "1"
    liver = opened.evaluate(PICTURE)
    assert liver != soft
    opened.evaluate(
        "(width => { width.value = 20; width.dispatchEvent(new Event('input')); })"
        "(document.querySelector('.width'))"
    )
    assert opened.evaluate("document.querySelector('.preset').value") == "own"
    assert opened.evaluate(PICTURE) not in (soft, liver)


def test_a_swipe_scrolls_on_a_phone_and_nothing_runs_over(browser: Browser, page: Path) -> None:
    browser.open(page, 390, 900)
    browser.wait_for(READY)
    before = browser.evaluate(PLACE)
    x, y, width, height = browser.evaluate(
        "(box => [box.x, box.y, box.width, box.height])"
        "(document.querySelector('.stage').getBoundingClientRect())"
    )
    browser.swipe((x + width / 2, y + height / 2), (x + width / 2 + 60, y + height / 2))
    assert browser.evaluate(PLACE) != before
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_a_script_there_are_pictures(browser: Browser, page: Path) -> None:
    browser.open(page, script=False)
    visible = "[...document.querySelectorAll('{}')].filter(each => each.checkVisibility()).length"
    assert browser.evaluate(visible.format("svg.still")) == 6
    assert browser.evaluate(visible.format("canvas")) == 0
    assert browser.evaluate("document.querySelector('svg.still').getBoundingClientRect().height") > 100


def test_a_browser_that_cannot_inflate_keeps_the_pictures(browser: Browser, tmp_path: Path) -> None:
    broken = str(case_fragment(ramp_case())).replace('class="voxels">', 'class="voxels">AAAA')
    path = tmp_path / "broken.html"
    path.write_text(PAGE.format(script_source(), Markup(broken), viewer_assets()), encoding="utf-8")
    browser.open(path)
    browser.wait_for("document.querySelector('.viewer.kept')")
    assert browser.evaluate("document.querySelector('svg.still').checkVisibility()")
    assert not browser.evaluate("document.querySelector('canvas').checkVisibility()")


def test_a_page_asks_for_nothing_but_itself(browser: Browser, page: Path) -> None:
    browser.requests()
    browser.complaints()
    browser.open(page)
    browser.wait_for(READY)
    assert browser.complaints() == []
    asked = {each.split(",")[0] for each in browser.requests()}
    assert asked <= {page.as_uri(), "data:image/png;base64", "data:"}
