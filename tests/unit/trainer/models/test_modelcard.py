"""A model card is read as Markdown and HTML: what a record calls an organ or a site stays a name there."""

import pytest
from markdown_it import MarkdownIt

from builders.federations import build_outcome, build_spec
from segviz_exchange.contract.records import Dice, Exported
from segviz_trainer.models.modelcard import Sources, model_card

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://evil.example/x.png)",
    "[x](http://evil.example)",
    "`x` | y | z",
    "x\n\n# Approved\n\n<b>y",
    "\\<b>",
]


def card(name: str) -> str:
    exported = Exported("base", 2, "ab" * 32, 1, (name,), (name,), build_spec())
    outcomes = {name: build_outcome("basel", base_liver=Dice(0.9, 0.04, 12))}
    return model_card(exported, Sources({name: (name,)}, {}, outcomes))


def tokens(text: str) -> list[str]:
    found = MarkdownIt("commonmark").enable("table").parse(text)
    inner = [each for token in found for each in token.children or ()]
    return sorted(token.type for token in (*found, *inner) if token.type not in ("text", "text_special"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_no_html_no_link_and_no_further_cell(name: str) -> None:
    assert tokens(card(name)) == tokens(card("liver"))
    assert "<script" not in card(name)


def test_an_ordinary_name_is_as_it_is() -> None:
    assert "| left-kidney | left-kidney | - |" in card("left-kidney")
