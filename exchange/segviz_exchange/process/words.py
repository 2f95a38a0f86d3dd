"""Text of one process that others show: one line of bounded length, whatever is in it."""

import unicodedata

MOST_CHARACTERS = 500
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def plain(text: str, most: int = MOST_CHARACTERS) -> str:
    """`text` with spaces for line breaks and tabs, � for other control characters, … for what is too much.

    Control characters move a terminal's cursor, and those of direction turn a line around (Unicode's Cc, Cf);
    a lone surrogate (Cs) is no UTF-8. Lines and paragraphs have separators of their own (Zl, Zp).
    """
    if len(text) > most:
        text = text[: most - 1] + "…"
    return "".join(
        " "
        if character in "\n\r\t" or unicodedata.category(character) in ("Zl", "Zp")
        else _REPLACEMENT
        if unicodedata.category(character) in ("Cc", "Cf", "Cs")
        else character
        for character in text
    )
