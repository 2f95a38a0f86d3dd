"""What the threat model says is tested is tested: each test that it names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("threat-model.md", "reliability.md")
TESTS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
FUNCTIONS = {name for text in TESTS.values() for name in re.findall(r"def (test_\w+)\(", text)}


@pytest.mark.parametrize("page", PAGES)
def test_each_test_that_is_named_is_there(page: str) -> None:
    text = (ROOT / "docs/explanation" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\btest_\w+", text)) - {"test_hostile_"}
    assert named, "the page names none"
    assert not named - FUNCTIONS - TESTS.keys()
