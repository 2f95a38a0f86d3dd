"""The local body with the real aggregator and a stand-in for the trainer: kills, edits, refusals."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from here import PATIENCE_SECONDS, Here, child_of, children_of, end_of, round_is, segviz


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    federation = Here(tmp_path)
    yield federation
    for runner in federation.runners:
        runner.kill()
        runner.communicate()


def test_a_federation_runs_to_its_report(here: Here) -> None:
    code, said = here.finish()
    assert code == 0, said
    assert here.weight() == 4.0
    report = json.loads(here.workdir.report_json.read_text())
    assert {(row["site"], row["organ"], row["mean"]) for row in report["rows"]} == {
        ("basel", "liver", 0.5),
        ("bern", "spleen", 0.5),
    }
    assert here.workdir.report_csv.read_text().splitlines()[1] == "Test,basel,FedBN,liver,0.5,0.1,2"
    assert "round 3/3: mean validation Dice 0.300" in said
    assert "\x1b" not in said, "a log has no control codes"


def test_running_it_again_changes_nothing_and_shows_the_report(here: Here) -> None:
    here.finish()
    before = {entry.key: entry.modified for entry in here.store.list("")}
    code, said = here.finish()
    assert (code, "0.50 ± 0.10" in said) == (0, True)
    assert {entry.key: entry.modified for entry in here.store.list("")} == before


@pytest.mark.parametrize("word", ["segviz_aggregator", "basel"])
def test_a_killed_child_is_made_again_and_the_result_is_the_same(here: Here, word: str) -> None:
    here.behave("bern", seconds="0.3")
    runner = here.start()
    here.wait(round_is(1))
    child_of(runner, word).kill()
    code, said = end_of(runner)
    assert (code, here.weight()) == (0, 4.0), said


def test_children_end_when_the_runner_is_killed_and_a_second_run_goes_on(here: Here) -> None:
    here.behave("bern", seconds="1")
    runner = here.start()
    here.wait(round_is(1))
    children = children_of(runner)
    runner.kill()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone), alive) == (3, [])
    here.behave("bern", seconds="0.01")
    code, said = here.finish()
    assert (code, here.weight()) == (0, 4.0), said


def test_ctrl_c_stops_everything_and_says_how_to_go_on(here: Here) -> None:
    here.behave("bern", seconds="1")
    runner = here.start()
    here.wait(round_is(1))
    children = children_of(runner)
    os.killpg(runner.pid, signal.SIGINT)  # as a terminal does
    code, said = end_of(runner)
    assert code == 130
    assert "Run the same command again to continue." in said
    assert not any(child.is_running() for child in children)
    assert "ERROR stopped" in (here.workdir.logs / "trainer-bern.log").read_text(), (
        "it got SIGTERM, not SIGKILL"
    )
    here.behave("bern", seconds="0.01")
    assert here.finish()[0] == 0


def test_a_second_runner_is_refused(here: Here) -> None:
    here.behave("bern", seconds="30")
    here.start()
    here.wait(round_is(0))
    code, said = here.finish()
    assert code == 2
    assert "another `segviz run` is at work here" in said


def test_a_site_that_joins_and_one_that_leaves(here: Here) -> None:
    here.behave("bern", seconds="0.2")
    here.describe("basel", "bern", rounds=8)
    runner = here.start()
    here.wait(round_is(1))
    here.describe("basel", "bern", "chur", rounds=8)
    here.wait(lambda records: "chur" in records.rounds[max(records.rounds)].participants)
    here.describe("basel", "chur", rounds=8)
    code, said = end_of(runner)
    assert code == 0, said
    records = here.records()
    assert records is not None
    assert records.rounds[8].participants == ("basel", "chur")
    assert records.sites["bern"].outcome is None
    assert here.weight() == 9.0


def test_a_suspended_federation_stops_its_children_until_it_is_resumed(here: Here) -> None:
    here.behave("bern", seconds="0.3")
    runner = here.start()
    here.wait(round_is(1))
    here.describe("basel", "bern", suspend=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while children_of(runner) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children_of(runner) == []
    here.describe("basel", "bern")
    code, said = end_of(runner)
    assert (code, here.weight()) == (0, 4.0), said


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"seed": 7}, "seed cannot change while the federation runs"), ({"rounds": "many"}, "rounds")],
)
def test_a_bad_edit_is_named_once_and_changes_nothing(
    here: Here, change: dict[str, Any], complaint: str
) -> None:
    here.behave("bern", seconds="0.3")
    runner = here.start()
    here.wait(round_is(1))
    here.describe("basel", "bern", **change)
    code, said = end_of(runner)
    assert code == 0, said
    assert said.count("warning: the edited manifest is not used") == 1
    assert complaint in said
    records = here.records()
    assert records is not None
    assert records.control is not None
    assert records.control.number == 1


def test_an_edit_of_what_may_not_change_is_refused_by_the_next_run(here: Here) -> None:
    here.finish()
    here.describe("basel", "bern", localEpochs=9)
    code, said = here.finish()
    assert code == 2
    assert "spec.localEpochs" in said


def test_a_refused_site_fails_a_federation_that_needs_it_and_mending_it_goes_on(here: Here) -> None:
    here.behave("bern", refuse="case_7.nii.gz ends inside its data")
    code, said = here.finish()
    assert code == 1
    assert "bern: left out, refused: case_7.nii.gz ends inside its data" in said
    assert "QuorumLost" in said
    (here.data("bern") / "refuse").unlink()
    code, said = here.finish()
    assert (code, here.weight()) == (0, 4.0), said


def test_a_refused_site_is_left_out_where_the_others_suffice(here: Here) -> None:
    here.behave("bern", refuse="no images")
    here.describe("basel", "bern", participation={"minSites": 1})
    code, said = here.finish()
    assert code == 0, said
    assert "bern was left out: refused: no images" in said


def test_a_crashing_trainer_is_tried_again(here: Here) -> None:
    here.behave("bern", crash="3")
    code, said = here.finish()
    assert (code, here.weight()) == (0, 4.0), said
    assert (here.workdir.logs / "trainer-bern.log").read_text().count("crashed") == 3


def test_a_trainer_that_never_gets_anywhere_is_given_up(here: Here) -> None:
    here.behave("bern", crash="99")
    code, said = here.finish()
    assert code == 1
    assert "bern: left out, failed 6 times in a row without progress, last with exit code 1" in said


MISTAKES: dict[str, tuple[Callable[[Here], tuple[object, ...]], str]] = {
    "a manifest that is not there": (lambda here: (here.root / "none.yaml",), "none.yaml"),
    "a folder for a site that does not take part": (
        lambda here: (here.manifest, "--data", f"brn={here.root}"),
        "no site is called 'brn'. Did you mean bern?",
    ),
    "a folder that is not there": (
        lambda here: (here.manifest, "--data", "bern=/nowhere"),
        "site 'bern': /nowhere is no folder (--data bern=/nowhere)",
    ),
    "a working folder that is a file": (
        lambda here: (here.manifest, "--workdir", here.manifest),
        "cannot be a --workdir",
    ),
    "a store of an unknown kind": (
        lambda here: (here.manifest, "--store", "gopher://x", "--workdir", here.root / "run"),
        "'gopher' is no kind of store",
    ),
}


@pytest.mark.parametrize(("words", "complaint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_before_anything_starts(
    here: Here, words: Callable[[Here], tuple[object, ...]], complaint: str
) -> None:
    ended = segviz("run", *words(here))
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (here.root / "run" / "logs").exists()


def test_a_claim_needs_a_folder(here: Here) -> None:
    documents = list(yaml.safe_load_all(here.manifest.read_text()))
    documents[2]["spec"]["volume"] = {"persistentVolumeClaim": {"claimName": "images"}}
    here.write(documents)
    ended = segviz("run", here.manifest)
    assert ended.returncode == 2
    assert "site 'bern': its images lie in the claim 'images'" in ended.stderr
    assert "--data bern=FOLDER" in ended.stderr


def test_status_tells_the_same_while_it_runs_after_a_kill_and_at_the_end(here: Here) -> None:
    here.describe("basel", "bern", rounds=10)
    runner = here.start()
    here.wait(round_is(1))
    here.behave("bern", seconds="30")
    during = json.loads(segviz("status", here.workdir.root, "--json").stdout)
    assert (during["running"], during["status"]["phase"], during["report"]) == (True, "Training", None)
    runner.kill()
    runner.wait()
    after = json.loads(segviz("status", here.workdir.root, "--json").stdout)
    assert (after["running"], after["status"]["phase"]) == (False, "Training")
    here.behave("bern", seconds="0.01")
    assert "Run the same `segviz run` again" in segviz("status", here.workdir.root).stdout.replace("\n", " ")
    here.finish()
    end = json.loads(segviz("status", here.workdir.root, "--json").stdout)
    assert end["report"] == json.loads(here.workdir.report_json.read_text())
