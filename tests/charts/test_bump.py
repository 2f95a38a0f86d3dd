"""The version is said in one place, and everything else follows it."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from builders.rendered import TOP


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("segviz_tools_bump", TOP / "tools" / "bump.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tool: ModuleType, tmp_path: Path) -> Path:
    """What says the version, in a folder of its own, as of 0.1.0."""
    for name in ("pyproject.toml", "CHANGELOG.md", *tool.CHARTS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, tmp_path / name)
    return tmp_path


def test_the_charts_say_the_version_of_the_project(tool: ModuleType) -> None:
    assert list(tool.chart_versions().values()) == [{tool.version_of()}] * 2, "run `make bump`"


def test_a_bump_changes_every_place_and_nothing_else(tool: ModuleType, checkout: Path) -> None:
    before = {path: path.read_text(encoding="utf-8").splitlines() for path in checkout.rglob("*.*")}
    tool.bump("7.0.0", "2026-11-30", checkout)
    assert tool.version_of(checkout) == "7.0.0"
    assert list(tool.chart_versions(checkout).values()) == [{"7.0.0"}, {"7.0.0"}]
    text = (checkout / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.index("## [Unreleased]") < text.index("## [7.0.0] – 2026-11-30")
    for path, lines in before.items():
        now = path.read_text(encoding="utf-8").splitlines()
        new = [line for line in now if line not in lines]
        assert all("7.0.0" in line for line in new), path
        assert 1 <= len(new) <= 2, path


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v7", "is not a version like 0.2.0"),
        ("7.0", "is not a version like 0.2.0"),
        ("0.0.1", "is not above"),
        ("0.1.0-rc.1", "is not above 0.1.0"),
    ],
)
def test_what_is_no_next_version_is_refused(
    tool: ModuleType, checkout: Path, version: str, said: str
) -> None:
    pyproject = checkout / "pyproject.toml"
    text = pyproject.read_text(encoding="utf-8").replace(
        f'version = "{tool.version_of()}"', 'version = "0.1.0"', 1
    )
    pyproject.write_text(text, encoding="utf-8")
    with pytest.raises(tool.Unfit, match=said):
        tool.bump(version, "2026-11-30", checkout)
    assert tool.version_of(checkout) == "0.1.0"
