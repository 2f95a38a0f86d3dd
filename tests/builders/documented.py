"""The commands in the docs' code blocks, read out of the Markdown."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from segviz_exchange.cli import main

TOP = Path(__file__).parents[2]
PAGES = (
    TOP / "README.md",
    *sorted((TOP / "docs").rglob("*.md")),
    *sorted((TOP / "examples").rglob("*.md")),
    *sorted((TOP / "charts").glob("*/README.md")),
)
TOOLS = ("segviz", "make", "helm", "kubectl")
_FENCE = re.compile(r"^( *)```[a-z]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Line:
    page: Path
    at: int
    """Where on the page, in characters."""
    words: tuple[str, ...]
    """Of the command itself: no comment, and nothing behind a pipe."""
    text: str
    """As a person would copy it."""

    @property
    def place(self) -> str:
        return self.page.relative_to(TOP).as_posix()

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.words)[:70]}"


def code_blocks(text: str) -> Iterator[str]:
    """Those in lists are indented."""
    for fence in _FENCE.finditer(text):
        yield _unindented(fence)


def _unindented(fence: re.Match[str]) -> str:
    return re.sub(rf"^{fence[1]}", "", fence[2], flags=re.MULTILINE)


def lines() -> Iterator[Line]:
    for page in PAGES:
        for fence in _FENCE.finditer(page.read_text(encoding="utf-8")):
            for line in _unindented(fence).replace("\\\n", " ").splitlines():
                command = line.removeprefix("$ ").strip()
                if command.split(" ")[0] in TOOLS:
                    words = shlex.split(command.partition(" | ")[0], comments=True)
                    yield Line(page, fence.start(), tuple(words), command)


def spans() -> Iterator[Line]:
    """Commands within the text: those that say enough to be run."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        prose = _FENCE.sub(lambda fence: " " * len(fence[0]), text)
        for found in re.finditer(r"`((?:segviz|kubectl|helm)\s[^`]+)`", prose):
            command = " ".join(found[1].split())
            words = tuple(shlex.split(command.partition(" | ")[0]))
            if len(words) > (3 if words[0] == "segviz" else 2):
                yield Line(page, found.start(), words, command)


LINES = tuple(lines())
SPANS = tuple(spans())


def of_tool(name: str) -> list[Line]:
    return [each for each in LINES if each.words[0] == name]


def check_segviz(words: Sequence[str]) -> None:
    """Raises where there is no such command or option, one lacks its value, or there are words too many."""
    command: click.Command = main
    context, rest = click.Context(main), list(words[1:])
    while isinstance(command, click.Group):
        found = command.get_command(context, rest[0])
        assert found is not None, f"there is no {rest[0]}"
        command, context = found, click.Context(found, parent=context)
        rest.pop(0)
    rest = rest[: rest.index("|")] if "|" in rest else rest
    _, left, _ = command.make_parser(context).parse_args(rest)
    takes_more = any(isinstance(each, click.Argument) for each in command.params)
    assert not left or takes_more, f"{left} are too many"
