"""`segviz status --watch` looks for days, and an API server may be away for a while in them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

SEGVIZ = Path(sys.executable).with_name("segviz")
METADATA = {"name": "abdomen", "namespace": "radiology", "uid": "0"}


def federation(**status: Any) -> dict[str, Any]:
    return {"metadata": METADATA, "spec": {"rounds": 3}, "status": status}


COMPLETE = {"type": "Complete", "status": "True", "reason": "Complete", "message": ""}
ANSWERS = [
    (200, federation(phase="Training", currentRound=1)),
    (503, {"message": "the server restarts"}),
    (200, federation(phase="Complete", currentRound=3, conditions=[COMPLETE])),
]


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """Of a server that answers just so: a real one cannot be told when to be away for a single request."""
    answers = iter(ANSWERS)

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = next(answers)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        clusters = [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}]
        contexts = [{"name": "test", "context": {"cluster": "test", "user": "test"}}]
        users = [{"name": "test", "user": {}}]
        path = tmp_path / "kubeconfig"
        text = {"clusters": clusters, "contexts": contexts, "users": users, "current-context": "test"}
        path.write_text(yaml.safe_dump(text), encoding="utf-8")
        yield path
        server.shutdown()


def test_a_watch_outlives_an_api_server_that_is_away(kubeconfig: Path) -> None:
    words = (SEGVIZ, "status", "-n", "radiology", "abdomen", "--watch")
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    ended = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "round 3/3" in ended.stdout
