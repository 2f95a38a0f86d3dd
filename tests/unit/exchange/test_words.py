"""Text of a site as others are shown it: one line, bounded, with nothing that moves a cursor."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segviz_exchange.process.words import MOST_CHARACTERS, for_json, for_spreadsheet, for_terminal, plain

HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
TEXTS = {
    "plain": ("2 of 9 cases", "2 of 9 cases"),
    "letters of any kind": ("Größe 肝 µm ×", "Größe 肝 µm ×"),
    "line breaks": ("a\nb\r\nc\td", "a b  c d"),
    "a cursor that moves": ("\x1b[2Jgone", "�[2Jgone"),
    "a bell and a zero": ("\x07\x00", "��"),
    "a line that turns around": ("\u202egnp.exe", "�gnp.exe"),
    "half a character": ("\ud800", "�"),
    "separators of lines": ("a\u2028b\u2029c", "a�b�c"),
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
    assert not {unicodedata.category(each) for each in shown} & HARMFUL
    assert plain(shown, most) == shown
    shown.encode()


@given(text=st.text())
def test_on_a_terminal_any_text_keeps_its_lines_and_its_length(text: str) -> None:
    shown = for_terminal(text)
    assert len(shown) == len(text)
    assert not {unicodedata.category(each) for each in shown if each not in "\n\t"} & HARMFUL


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_json_says_the_same_in_harmless_characters(text: str) -> None:
    document = for_json(json.dumps({"message": text, "more": [text]}, ensure_ascii=False, indent=2))
    assert json.loads(document) == {"message": text, "more": [text]}
    assert not {unicodedata.category(each) for each in document if each != "\n"} & HARMFUL


FORMULAS = ("=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_computes_no_text(text: str) -> None:
    assert for_spreadsheet(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1.5, 3, None, True, "liver", "left-kidney", "-", "", "a=b"])
def test_in_a_spreadsheet_numbers_and_other_text_stay(value: object) -> None:
    assert for_spreadsheet(value) == value
