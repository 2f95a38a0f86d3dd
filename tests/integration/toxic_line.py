"""A line between hospital and store that can be cut, slowed and mended again: toxiproxy, a real one."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from integration.built import built_tool
from integration.ports import free_address

START_SECONDS = 30.0
_NAME = "line"


@dataclass(frozen=True)
class Line:
    address: str
    """HOST:PORT of this end."""
    control: str

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def silence(self) -> None:
        """Nothing comes through either way, and nobody is told: what a cut cable looks like."""
        for stream in ("upstream", "downstream"):
            self._add(f"silence-{stream}", "timeout", stream, timeout=0)

    def slow(self, bits_a_second: float) -> None:
        for stream in ("upstream", "downstream"):
            self._add(f"slow-{stream}", "bandwidth", stream, rate=round(bits_a_second / 8000))

    def break_after(self, sent_bytes: int) -> None:
        """Every connection ends once so much has gone up."""
        self._add("broken", "limit_data", "upstream", bytes=sent_bytes)

    def mend(self) -> None:
        self._ask("POST", "/reset", {})

    def _add(self, name: str, kind: str, stream: str, **attributes: int) -> None:
        toxic = {"name": name, "type": kind, "stream": stream, "attributes": attributes}
        self._ask("POST", f"/proxies/{_NAME}/toxics", toxic)

    def _ask(self, method: str, path: str, body: object) -> None:
        answer = urllib3.request(method, f"http://{self.control}{path}", json=body)
        assert answer.status < 300, answer.data


@contextmanager
def line_to(address: str, folder: Path) -> Iterator[Line]:
    """A line to HOST:PORT, whole until it is told otherwise."""
    binary = built_tool("toxiproxy")
    if binary is None:
        pytest.skip("toxiproxy is not built; run: make tools")
    line = Line(free_address(), free_address())
    host, _, port = line.control.rpartition(":")
    with (folder / "toxiproxy.log").open("wb") as log:
        process = subprocess.Popen((binary, "-host", host, "-port", port), stdout=log, stderr=log)
    try:
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                line._ask("POST", "/proxies", {"name": _NAME, "listen": line.address, "upstream": address})
                break
            except urllib3.exceptions.HTTPError:
                assert process.poll() is None, "toxiproxy did not start"
                assert time.monotonic() < give_up, "toxiproxy does not answer"
                time.sleep(0.05)
        yield line
    finally:
        process.terminate()
        process.wait(10)
