"""An operator of a cluster that lacks the CRDs: alive, not ready, and at work once they are there."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from integration.apiserver import install_crds, running_apiserver
from integration.ports import free_ports

WAIT_SECONDS = 120.0


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_an_operator_without_its_crds_is_alive_and_not_ready(tmp_path: Path):
    health, metrics = free_ports(2)
    options = (
        *("--aggregator-image", "a", "--trainer-image", "t", "--page-port", "0"),
        *("--liveness", f"http://127.0.0.1:{health}/healthz", "--metrics-port", str(metrics)),
    )
    log = tmp_path / "operator.log"
    with running_apiserver(tmp_path) as server, log.open("wb") as stream:
        kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig")
        operator = subprocess.Popen(
            [sys.executable, "-m", "segviz_operator", *options],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdout=stream,
            stderr=stream,
        )

        def until(look: Callable[[], bool], what: str) -> None:
            deadline = time.monotonic() + WAIT_SECONDS
            while not look():
                said = log.read_text(encoding="utf-8")
                assert operator.poll() is None, f"The operator ended before {what}: {said}"
                assert time.monotonic() < deadline, f"Not {what}: {said}"
                time.sleep(0.2)

        try:
            until(lambda: ask(health, "/healthz")[0] == 200, "alive")
            status, said = ask(metrics, "/readyz")
            assert (status, "segvizfederations, segvizsites. Apply the CRDs" in said) == (503, True)
            assert "segviz_operator_watching 0.0" in ask(metrics, "/metrics")[1]
            assert "nothing is watched" in log.read_text(encoding="utf-8")
            install_crds(server)
            until(lambda: ask(metrics, "/readyz") == (200, "ready\n"), "ready")
            # kopf has taken over: its answer is another one.
            until(lambda: ask(health, "/healthz") not in ((0, ""), (200, "waiting\n")), "watching")
        finally:
            operator.kill()
            operator.wait(30)
