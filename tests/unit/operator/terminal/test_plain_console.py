"""What a hostile record says reaches a terminal as text, and a program as JSON that says the same."""

import io
import re
import unicodedata
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from builders.federations import build_control
from builders.snapshots import snapshot
from segviz_exchange.process.console import PlainConsole
from segviz_operator.cli.cluster_view import render_federation
from segviz_operator.progress.status import build_status
from segviz_operator.terminal.screen import render_status

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b2J\u202egnp.exe\u2066\u200b [link=http://evil.example]x[/link] [/b] :bomb:"
)


def console() -> PlainConsole:
    return PlainConsole(
        file=io.StringIO(), force_terminal=True, width=300, highlight=False, markup=False, emoji=False
    )


def shown(on: PlainConsole) -> str:
    """All that was written, without the styles of our own."""
    written: str = on.file.getvalue()  # type: ignore[attr-defined]
    return re.sub(r"\x1b\[[0-9;]*m", "", written)


def assert_harmless(text: str) -> None:
    found = {each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs") and each != "\n"}
    assert not found
    assert "]0;owned" in text
    assert "[link=http://evil.example]x[/link] [/b] :bomb:" in text


@pytest.mark.parametrize("what", [HOSTILE, Text(HOSTILE), Text(HOSTILE, style="bold red")], ids=type)
def test_text_of_any_kind_moves_no_cursor(what: str | Text) -> None:
    on = console()
    on.print(what, soft_wrap=True)
    assert_harmless(shown(on))


def test_nor_does_a_cell_of_a_table_or_its_title() -> None:
    table = Table(HOSTILE, title=HOSTILE, box=None)
    table.add_row(HOSTILE)
    on = console()
    on.print(table)
    assert_harmless(shown(on))


def test_segviz_status_shows_what_a_site_says_as_text() -> None:
    control = build_control(1, ("basel", "bern"), excluded={"bern": HOSTILE})
    on = console()
    on.print(render_status(build_status("abdomen", snapshot(control))))
    assert_harmless(shown(on))


def test_segviz_status_of_a_cluster_does_so_too() -> None:
    site: dict[str, Any] = {"alias": "basel", "phase": "LeftOut", "message": HOSTILE}
    raw = {
        "metadata": {"namespace": "radiology", "name": "abdomen"},
        "spec": {"rounds": 3},
        "status": {"sites": [site], "evaluation": [site]},
    }
    on = console()
    on.print(render_federation(raw))
    assert_harmless(shown(on))
