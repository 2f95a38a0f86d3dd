"""The commands in the docs' code blocks: of a command, option, target or value that is there.

They are not run here, save Helm's: `make demo` and `make e2e` do what most of them say, on other names.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from builders.rendered import CHARTS, KUBERNETES, OPERATOR, SITE, TOP, helm
from segviz_exchange.cli import main

PAGES = (
    TOP / "README.md",
    *sorted((TOP / "docs").rglob("*.md")),
    *sorted((TOP / "examples").rglob("*.md")),
    *sorted(CHARTS.glob("*/README.md")),
)
TOOLS = ("segviz", "make", "helm", "kubectl")
KUBECTL = {
    "annotate", "apply", "create", "delete", "describe", "explain", "get", "label", "logs", "patch",
    "port-forward", "wait",
}  # fmt: skip
"""Verbs that need a cluster: tests/e2e uses each of them, or the same request by the API."""


@dataclass(frozen=True)
class Line:
    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(TOP)}: {' '.join(self.words)[:70]}"


def code_blocks(text: str) -> Iterator[str]:
    for fence in re.finditer(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield fence[1]


def lines() -> Iterator[Line]:
    for page in PAGES:
        for block in code_blocks(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.removeprefix("$ ")
                if command.split(" ")[0] in TOOLS:
                    words = shlex.split(command.partition(" | ")[0], comments=True)
                    yield Line(page, tuple(words))


LINES = tuple(lines())


def of_tool(name: str) -> list[Line]:
    return [each for each in LINES if each.words[0] == name]


def test_there_are_commands_of_every_tool() -> None:
    assert {name: len(of_tool(name)) > 3 for name in TOOLS} == dict.fromkeys(TOOLS, True)


@pytest.mark.parametrize("line", of_tool("segviz"), ids=str)
def test_a_command_of_segviz_takes_what_the_docs_give_it(line: Line) -> None:
    command: click.Command = main
    words = list(line.words[1:])
    context = click.Context(main)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no {words[0]}"
        command, context = found, click.Context(found, parent=context)
        words.pop(0)
    # Raises where there is no such option, or one lacks its value.
    _, rest, _ = command.make_parser(context).parse_args(words)
    takes_more = any(isinstance(each, click.Argument) for each in command.params)
    assert not rest or takes_more, f"{rest} are too many"


@pytest.mark.parametrize("line", of_tool("make"), ids=str)
def test_a_target_is_in_the_makefile(line: Line) -> None:
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    targets = [word for word in line.words[1:] if "=" not in word]
    assert all(re.search(rf"^{re.escape(each)}:", makefile, re.MULTILINE) for each in targets)


@pytest.mark.parametrize("line", [each for each in of_tool("helm") if "uninstall" not in each.words], ids=str)
def test_what_helm_is_given_renders(line: Line) -> None:
    # A released chart is this one.
    (name,) = [word for word in line.words if re.match(r"(oci://REGISTRY/)?charts/", word)]
    chart = name.removeprefix("oci://REGISTRY/")
    given = [line.words[at + 1] for at, word in enumerate(line.words) if word == "--set"]
    values = (OPERATOR if chart == "charts/segviz-operator" else SITE)["plain"]
    set_ = [word for each in given for word in ("--set", each)]
    assert "kind:" in helm(
        "template", "x", str(TOP / chart), "--kube-version", KUBERNETES, *set_, values=values
    )


@pytest.mark.parametrize("line", of_tool("kubectl"), ids=str)
def test_a_verb_of_kubectl_is_one_that_tests_use(line: Line) -> None:
    words = [word for word in line.words[1:] if not word.startswith("-")]
    namespace = [line.words[at + 1] for at, word in enumerate(line.words) if word == "-n"]
    verb = next(word for word in words if word not in namespace)
    assert verb in KUBECTL
