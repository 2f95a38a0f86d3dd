"""The commands in the docs' code blocks: of a command, option, target or value that is there.

They are run by tests/integration/test_docs_cluster.py and test_docs_machine.py, and what cannot be run there
by the tests that builders/walks.py names.
"""

import re

import pytest

from builders.documented import LINES, SPANS, TOOLS, Line, check_segviz, of_tool
from builders.rendered import KUBERNETES, OPERATOR, SITE, TOP, helm
from builders.walks import ELSEWHERE, HOSPITAL, REPOSITORY, elsewhere, runs_here, runs_in_cluster


def test_there_are_commands_of_every_tool() -> None:
    assert {name: len(of_tool(name)) > 3 for name in TOOLS} == dict.fromkeys(TOOLS, True)


@pytest.mark.parametrize("line", of_tool("segviz"), ids=str)
def test_a_command_of_segviz_takes_what_the_docs_give_it(line: Line) -> None:
    check_segviz(line.words)


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


@pytest.mark.parametrize("line", [*LINES, *SPANS], ids=str)
def test_it_is_run_somewhere(line: Line) -> None:
    if runs_in_cluster(line):
        assert line.place in (*HOSPITAL, *REPOSITORY), "no walk goes over this page"
    else:
        assert runs_here(line) or elsewhere(line), "builders/walks.py says nothing of it"


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_what_is_run_elsewhere_is_on_a_page_and_its_test_is_there(pattern: str) -> None:
    test, _ = ELSEWHERE[pattern]
    assert (TOP / test).is_file()
    assert any(re.match(pattern, line.text) for line in (*LINES, *SPANS)), "no page has it"
