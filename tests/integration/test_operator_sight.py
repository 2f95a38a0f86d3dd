"""An operator of a cluster that lacks the CRDs: alive, not ready, and at work once they are there."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import yaml

from integration.apiserver import free_ports
from segviz_exchange.process.http_pages import Answer, Pages

KINDS = {"resources": [{"name": "segvizfederations"}, {"name": "segvizsites"}]}


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_an_operator_without_its_crds_is_alive_and_not_ready(tmp_path: Path):
    applied = False

    def discovery(_: object) -> Answer:
        if not applied:
            return Answer(b'{"message": "not found"}', "application/json", 404)
        return Answer(json.dumps(KINDS).encode(), "application/json")

    server = Pages({"/apis/segviz.dev/v1alpha1": discovery}, 0)
    kubeconfig = tmp_path / "kubeconfig"
    named = {"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}
    context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [context],
                "clusters": [named],
                "users": [{"name": "test", "user": {"token": "x"}}],
            }
        ),
        encoding="utf-8",
    )
    health, metrics = free_ports(2)
    options = (
        *("--aggregator-image", "a", "--trainer-image", "t", "--page-port", "0"),
        *("--liveness", f"http://127.0.0.1:{health}/healthz", "--metrics-port", str(metrics)),
    )
    log = tmp_path / "log"
    with log.open("wb") as stream:
        operator = subprocess.Popen(
            [sys.executable, "-m", "segviz_operator", *options],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdout=stream,
            stderr=stream,
        )
    try:
        until(lambda: ask(health, "/healthz")[0] == 200, "it is alive")
        status, said = ask(metrics, "/readyz")
        assert (status, "segvizfederations, segvizsites. Apply the CRDs" in said) == (503, True)
        assert "segviz_operator_watching 0.0" in ask(metrics, "/metrics")[1]
        assert "nothing is watched" in log.read_text(encoding="utf-8")
        applied = True
        until(lambda: ask(metrics, "/readyz") == (200, "ready\n"), "it is ready")
        # kopf has taken over: its answer is another one.
        until(lambda: ask(health, "/healthz")[0] == 200 and ask(health, "/healthz")[1] != "waiting\n", "kopf")
    finally:
        operator.kill()
        operator.wait(30)
        server.close()
