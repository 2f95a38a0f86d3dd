"""A real Chromium for tests of pages, driven by Debian's `chromium-driver`: WebDriver is HTTP and JSON."""

import base64
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's id in WebDriver's answers, as its standard fixes it."""
_WAIT_MS = 60_000
KEYS = {"End": "\ue010", "Home": "\ue011", "ArrowUp": "\ue013", "PageDown": "\ue00f", "Tab": "\ue004"}


class Browser:
    """One window."""

    def __init__(self, url: str) -> None:
        self._url = url

    def open(self, page: Path, width: int = 1280, height: int = 1000, *, script: bool = True) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        self.devtools("Emulation.setScriptExecutionDisabled", value=not script)
        self._call("url", {"url": page.as_uri()})

    def evaluate(self, expression: str) -> Any:
        """Of the page; a promise is waited for. Works where the page's own scripts are off."""
        options = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = self.devtools("Runtime.evaluate", **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        look = f"() => {expression} ? done() : Date.now() > end ? fail('late') : setTimeout(look, 20)"
        self.evaluate(
            f"new Promise((done, fail) => {{ const end = Date.now() + {_WAIT_MS}, look = {look}; look(); }})"
        )

    def press(self, key: str) -> None:
        """To what has the focus."""
        pressed = {"type": "key", "id": "keys", "actions": []}
        for kind in ("keyDown", "keyUp"):
            pressed["actions"].append({"type": kind, "value": KEYS.get(key, key)})
        self._call("actions", {"actions": [pressed]})

    def click(self, selector: str) -> None:
        found = self._call("element", {"using": "css selector", "value": selector})
        self._call(f"element/{found[_ELEMENT]}/click", {})

    def swipe(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A finger over the glass, in pixels of the window."""
        for kind, points in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
            touched = [{"x": x, "y": y} for x, y in points]
            self.devtools("Input.dispatchTouchEvent", type=kind, touchPoints=touched)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("screenshot")))

    def complaints(self) -> list[str]:
        """Errors and warnings since the last look."""
        return [each["message"] for each in self._call("se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Addresses that the pages asked for since the last look."""
        events = [
            json.loads(each["message"])["message"] for each in self._call("se/log", {"type": "performance"})
        ]
        return [
            each["params"]["request"]["url"]
            for each in events
            if each["method"] == "Network.requestWillBeSent"
        ]

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._call("goog/cdp/execute", {"cmd": command, "params": parameters})

    def close(self) -> None:
        _send(self._url, None, "DELETE")

    def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return _send(f"{self._url}/{path}", body, "GET" if body is None else "POST")


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Skips where there is none."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or program is None:
        pytest.skip("looks at a page in Chromium: apt-get install chromium chromium-driver")
    arguments = [*_FLAGS, f"--user-data-dir={profile}"]
    options = {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": program, "args": arguments},
        "goog:loggingPrefs": {"browser": "WARNING", "performance": "ALL"},
    }
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            server = f"http://127.0.0.1:{_port(process)}/session"
            session = _send(server, {"capabilities": {"alwaysMatch": options}}, "POST")
            browser = Browser(f"{server}/{session['sessionId']}")
            try:
                yield browser
            finally:
                browser.close()
        finally:
            process.terminate()


def _port(process: "subprocess.Popen[str]") -> int:
    """As the driver says it: one that was free."""
    assert process.stdout is not None
    for line in process.stdout:
        if "started successfully on port" in line:
            return int(line.rstrip(".\n").rsplit(" ", 1)[1])
    raise RuntimeError("chromedriver ended before it had a port")


def _send(url: str, body: dict[str, Any] | None, method: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["value"]
