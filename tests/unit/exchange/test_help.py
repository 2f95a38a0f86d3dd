"""What every command says of itself, on a terminal of 80 columns."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from builders.documented import check_segviz
from segviz_exchange.cli import main

COLUMNS = 80


def pages(command: click.Command = main, context: click.Context | None = None) -> Iterator[click.Context]:
    if context is None:
        context = click.Context(main, info_name="segviz", **main.context_settings)
    context.terminal_width = COLUMNS
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from pages(found, click.Context(found, context, name))


PAGES = tuple(pages())
every_page = pytest.mark.parametrize("page", PAGES, ids=[page.command_path for page in PAGES])


def test_there_is_a_page_for_each_command() -> None:
    paths = {page.command_path for page in PAGES}
    assert {"segviz", "segviz run", "segviz data check", "segviz store check"} <= paths


@every_page
def test_it_fits_the_terminal(page: click.Context) -> None:
    assert [line for line in page.command.get_help(page).splitlines() if len(line) > COLUMNS] == []


@every_page
def test_every_option_has_a_sentence(page: click.Context) -> None:
    options = [each for each in page.command.params if isinstance(each, click.Option) and not each.hidden]
    sentence = re.compile(r"[A-Za-z].*\.(  \[.*\])?", re.DOTALL)
    assert [each.opts for each in options if not sentence.fullmatch(each.help or "")] == []


def examples_of(page: click.Context) -> list[list[str]]:
    """Words of each command under Examples."""
    text = page.command.get_help(page)
    _, found, rest = text.partition("  Examples:\n")
    assert found, text
    lines = rest.split("\n\n")[0].replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [each[each.index("segviz") :] for each in words if "segviz" in each]


@every_page
def test_its_examples_are_commands_that_are_there(page: click.Context) -> None:
    examples = examples_of(page)
    assert examples
    for words in examples:
        assert words[: len(page.command_path.split())] == page.command_path.split()
        if "COMMAND" not in words:
            check_segviz(words)
