"""Text of a site as others are shown it: one line, bounded, with nothing that moves a cursor."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segviz_exchange.process.words import MOST_CHARACTERS, plain

TEXTS = {
    "plain": ("2 of 9 cases", "2 of 9 cases"),
    "letters of any kind": ("Größe 肝 µm ×", "Größe 肝 µm ×"),
    "line breaks": ("a\nb\r\nc\td", "a b  c d"),
    "a cursor that moves": ("\x1b[2Jgone", "�[2Jgone"),
    "a bell and a zero": ("\x07\x00", "��"),
    "a line that turns around": ("\u202egnp.exe", "�gnp.exe"),
    "half a character": ("\ud800", "�"),
    "as long as may be": ("a" * MOST_CHARACTERS, "a" * MOST_CHARACTERS),
    "a letter too long": ("a" * (MOST_CHARACTERS + 1), "a" * (MOST_CHARACTERS - 1) + "…"),
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS)
def test_it_is_shown_as(text: str, expected: str) -> None:
    assert plain(text) == expected


@given(text=st.text(), most=st.integers(1, 40))
def test_any_text_is_one_bounded_line(text: str, most: int) -> None:
    shown = plain(text, most)
    assert len(shown) <= most
    assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cf", "Cs"}
    assert plain(shown, most) == shown
    shown.encode()
