"""A hospital's way to the store: a line that may fail, and a proxy that alone knows where the store is."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration.proxies import Proxy, running_proxy
from integration.secure_store import HOST, Secure
from integration.toxic_line import Line, line_to


@dataclass
class Link:
    store: str
    """HOST:PORT of it; nobody else can look it up."""
    folder: Path
    line: Line = field(init=False)
    proxy: Proxy = field(init=False)
    _proxy: ExitStack = field(default_factory=ExitStack)
    _lines: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.start_proxy(0)
        self.line = self._lines.enter_context(line_to(f"127.0.0.1:{self.proxy.port}", self.folder))

    def start_proxy(self, port: int) -> None:
        self.proxy = self._proxy.enter_context(running_proxy(self.folder / "proxy", self.store, port=port))

    def stop_proxy(self) -> None:
        self._proxy.close()

    def close(self) -> None:
        self._lines.close()
        self._proxy.close()


@pytest.fixture
def link(secure: Secure, tmp_path: Path) -> Iterator[Link]:
    with secure.running():
        made = Link(f"{HOST}:{secure.server.address.rpartition(':')[2]}", tmp_path)
        yield made
        made.close()
