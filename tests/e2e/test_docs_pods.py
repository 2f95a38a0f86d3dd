"""The docs' commands that need a Pod: logs, and the built-in page by a forwarded port."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from federation import Make
from install import SYSTEM
from kube import Kube, until

SEGVIZ = Path(sys.executable).with_name("segviz")
PAGE = "http://127.0.0.1:8081/"


@pytest.mark.full
def test_the_logs_of_a_running_trainer_are_read_by_both_commands(make: Make, kube: Kube) -> None:
    federation = make("whole")
    federation.apply()
    pod = federation.running_pod("trainer", "basel")["metadata"]
    job = pod["labels"]["batch.kubernetes.io/job-name"]
    logs = ("logs", f"job/{job}", f"--namespace={pod['namespace']}")
    until("the trainer has said something", 90, lambda: kube.run(*logs).strip())
    words = (SEGVIZ, "logs", "-n", federation.namespace, federation.name, "basel")
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"({pod['namespace']}/{job})" in done.stdout
    assert '"site":' in done.stdout


@pytest.mark.full
def test_the_operators_page_is_there_by_a_forwarded_port(make: Make, kube: Kube) -> None:
    make("whole").apply()
    command = (kube.kubectl, "-n", SYSTEM, "port-forward", "deployment/segviz-operator", "8081")
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as forwarding:
        try:
            assert forwarding.stdout is not None
            assert "Forwarding from" in forwarding.stdout.readline()
            with urllib.request.urlopen(PAGE, timeout=30) as answer:
                assert "<html" in answer.read().decode()
        finally:
            forwarding.terminate()
