"""Files that are met whole, whatever happens to whoever writes them."""

import os
import stat
from pathlib import Path

import pytest

from segviz_exchange.process.writing import write_private, write_whole


def test_what_is_private_is_so_and_no_power_cut_takes_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").resolve())
    )
    path = tmp_path / "account" / "0001-1.json"
    write_private(path, b"{}")
    assert path.read_bytes() == b"{}"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]
    # First what it holds, and then that it is there.
    assert [each == path.parent for each in synced] == [False, True]


@pytest.mark.parametrize("write", [write_whole, write_private])
def test_what_a_killed_writer_left_is_in_nobodys_way(write, tmp_path: Path) -> None:
    (tmp_path / f".a.json.{os.getpid()}.partial").write_bytes(b"half")
    write(tmp_path / "a.json", b"{}")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
