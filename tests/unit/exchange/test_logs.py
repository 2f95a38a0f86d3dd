"""Log lines: whose they are, and one JSON object each where a machine reads them."""

import json
import subprocess
import sys
from pathlib import Path

from segviz_operator.cluster.objects.pods import last_words as last_words_of_pod
from segviz_operator.machine.processes import last_words

PROGRAM = """
import logging, warnings
from segviz_exchange.process import logs
logs.configure("trainer", "radiology/abdomen", "basel")
log = logging.getLogger("segviz_trainer.x")
log.info("before any round")
logs.enter_round(3)
log.warning("case %s is odd", "a1")
warnings.warn("from a library")
with logs.speaking_of("oncology/chest"):
    log.info("of another")
{end}
"""


def said(end: str = "", **environment: str) -> str:
    words = [sys.executable, "-c", PROGRAM.format(end=end)]
    return subprocess.run(words, capture_output=True, encoding="utf-8", env=environment, timeout=60).stderr


def test_a_terminal_gets_lines_for_people_that_say_whose_they_are() -> None:
    lines = said().splitlines()
    assert lines[0].endswith(" INFO [radiology/abdomen basel] before any round")
    assert lines[1].endswith(" WARNING [radiology/abdomen basel round 3] case a1 is odd")
    assert "[oncology/chest basel round 3] of another" in lines[-1]


def test_a_pod_writes_one_object_a_line_each_with_federation_site_and_round() -> None:
    entries = [json.loads(line) for line in said(SEGVIZ_LOG_FORMAT="json").splitlines()]
    assert [entry["round"] for entry in entries] == [None, 3, 3, 3]
    assert {entry["site"] for entry in entries} == {"basel"}
    assert [entry["federation"] for entry in entries][0::3] == ["radiology/abdomen", "oncology/chest"]
    assert entries[1]["message"] == "case a1 is odd"
    assert (entries[1]["level"], entries[1]["component"]) == ("WARNING", "trainer")
    assert "from a library" in entries[2]["message"]
    assert all(entry["timestamp"] for entry in entries)


def test_an_error_that_nobody_caught_is_one_object_too() -> None:
    last = said("1 / 0", SEGVIZ_LOG_FORMAT="json").splitlines()[-1]
    entry = json.loads(last)
    assert entry["message"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in entry["exc_info"]
    assert last_words_of_pod(last) == "ZeroDivisionError: division by zero"


def test_the_last_words_of_a_process_come_without_what_is_before_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(said('logging.getLogger("x").error("no such label: 9")'), encoding="utf-8")
    assert last_words(log, 0) == "no such label: 9"
