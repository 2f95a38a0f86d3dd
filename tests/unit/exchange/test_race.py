"""A race of creates that is broken off."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from segviz_exchange.process.stopping import Stopped
from segviz_exchange.stores.conformance import race
from segviz_exchange.stores.folder import FolderStore


class StoppedAfterOne(list[bytes]):
    """As if SIGTERM came while the contenders are sent off."""

    def __iter__(self) -> Iterator[bytes]:
        yield self[0]
        raise Stopped


@pytest.mark.timeout(60)
def test_a_stop_before_all_have_begun_ends_the_race(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        race(FolderStore(tmp_path), "key", StoppedAfterOne([b"one", b"two"]))
    assert race(FolderStore(tmp_path), "key", [b"one", b"two"]).count(True) == 1
