"""Real proxies for the tests: proxy.py, which passes TLS on untouched or opens it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from integration.proxy_rules import STORE

_TESTS = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0


@dataclass(frozen=True)
class Proxy:
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")


@contextmanager
def running_proxy(
    folder: Path, store: str, *options: object, rules: tuple[str, ...] = (), port: int = 0
) -> Iterator[Proxy]:
    """Args:
    store: HOST:PORT, the only place that it connects to.
    options: further ones of proxy.py.
    rules: further classes of proxy_rules.
    """
    folder.mkdir(exist_ok=True)
    chosen = folder / "port"
    chosen.unlink(missing_ok=True)
    plugins = ",".join(f"integration.proxy_rules.{each}" for each in ("StoreAlone", *rules))
    words = (
        *(sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", port, "--port-file", chosen),
        *("--num-workers", 1, "--num-acceptors", 1, "--plugins", plugins, *options),
    )
    settings = {"PYTHONPATH": str(_TESTS), STORE: store, "HOME": str(folder)}
    log = folder / "log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            tuple(map(str, words)), env={**os.environ, **settings}, stdout=stream, stderr=stream, cwd=folder
        )
    try:
        yield Proxy(_port(chosen, process, log), log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(chosen: Path, process: subprocess.Popen[bytes], log: Path) -> int:
    give_up = time.monotonic() + START_SECONDS
    while not (chosen.exists() and (text := chosen.read_text(encoding="utf-8").strip())):
        running = process.poll() is None and time.monotonic() < give_up
        assert running, f"the proxy did not start:\n{log.read_text(encoding='utf-8')}"
        time.sleep(0.05)
    return int(text.split()[0])
