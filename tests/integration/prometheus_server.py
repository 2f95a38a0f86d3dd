"""A real Prometheus, and its tool, as the tests run them."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from integration.built import built_tool
from integration.ports import free_port

READY_SECONDS = 30.0


class Prometheus:
    def __init__(self, folder: Path, targets: Path, rules: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        settings = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {
                    "job_name": "segviz",
                    "honor_labels": True,
                    "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
                }
            ],
        }
        folder.mkdir()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        words = (
            built_tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(words, stdout=self._log, stderr=subprocess.STDOUT)
        self._await()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def ask(self, path: str, **parameters: object) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def series(self, expr: str, seconds: float) -> list[dict[str, Any]]:
        """Of the last `seconds`, those with a number in them; NaN is as empty as nothing."""
        now = time.time()
        found = self.ask("query_range", query=expr, start=now - seconds, end=now, step=1)["result"]
        return [each for each in found if any(value != "NaN" for _, value in each["values"])]

    def _await(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("Prometheus does not start")
