"""Which folder holds a site's images, as the command line says it."""

from pathlib import Path

import pytest

from segviz_exchange.process.errors import Refusal
from segviz_operator.local.volumes import Volumes, parse_volumes


def test_a_folder_is_for_all_sites_or_for_one() -> None:
    assert parse_volumes(["all", "basel=one"]) == Volumes(Path("all"), {"basel": Path("one")})


def test_a_folder_whose_name_has_an_equals_sign_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert parse_volumes([str(folder)]) == Volumes(folder, {})


@pytest.mark.parametrize("option", ["basel=", ""])
def test_a_folder_without_a_name_is_refused(option: str) -> None:
    """It would be the current one."""
    with pytest.raises(Refusal, match="names no folder"):
        parse_volumes([option])


@pytest.mark.parametrize("options", [("a", "b"), ("basel=a", "basel=b")], ids=" ".join)
def test_the_same_said_twice_is_refused(options: tuple[str, str]) -> None:
    with pytest.raises(Refusal, match="is given too"):
        parse_volumes(options)
