"""The local body with the real aggregator and a stand-in for the trainer: kills, edits, refusals."""

import io
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
from rich.console import Console

from segviz_exchange.contract import keys
from segviz_exchange.contract.records import Control
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stop
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.local import identity
from segviz_operator.local.body import run_locally
from segviz_operator.local.files import ManifestFiles
from segviz_operator.local.volumes import Volumes
from segviz_operator.local.wishes import Request
from segviz_operator.terminal.live import open_view


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
    report = json.loads(here.workdir.report_json.read_text(encoding="utf-8"))
    assert {(row["site"], row["organ"], row["mean"]) for row in report["rows"]} == {
        ("basel", "liver", 0.5),
        ("bern", "spleen", 0.5),
    }
    assert (
        here.workdir.report_csv.read_text(encoding="utf-8").splitlines()[1]
        == "Test,basel,FedBN,liver,0.5,0.1,2,,,,,"
    )
    assert "round 3/3: mean validation Dice 0.300" in said
    assert "\x1b" not in said, "a log has no control codes"


def test_old_models_and_updates_go_where_the_manifest_says_so(here: Here) -> None:
    store = {
        "endpoint": "https://ignored.example",
        "bucket": "ignored",
        "secretRef": {"name": "ignored"},
        "retention": {"rounds": 2},
    }
    here.describe("basel", "bern", rounds=5, store=store)
    code, said = here.finish()
    assert code == 0, said
    records = here.records()
    assert records is not None
    left = {entry.key for entry in here.store.list("") if "/blobs/" in entry.key}
    assert left == {keys.global_blob(records.rounds[number].blob) for number in (0, 4, 5)}


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
    assert "ERROR stopped" in (here.workdir.logs / "trainer-bern.log").read_text(encoding="utf-8"), (
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
    assert "another `segviz run` is running here" in said


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


def test_an_edit_that_leaves_nobody_who_trains_is_not_used(here: Here) -> None:
    here.behave("basel", seconds="0.3")
    here.describe("basel", rounds=6)
    runner = here.start()
    here.wait(round_is(1))
    here.describe("chur", rounds=6)
    here.wait(round_is(3))
    here.describe("basel", "chur", rounds=6)
    here.wait(lambda records: "chur" in records.rounds[max(records.rounds)].participants)
    here.describe("chur", rounds=6)
    code, said = end_of(runner)
    assert code == 0, said
    told = "spec.sites removes every site that is training (basel)"
    assert said.count(f"the edited manifest is not used. SegVizFederation default/abdomen: {told}") == 1
    records = here.records()
    assert records is not None
    assert [records.rounds[number].participants for number in (3, 6)] == [("basel",), ("chur",)]


def test_a_record_of_another_version_ends_a_run_with_a_sentence(here: Here) -> None:
    here.behave("bern", seconds="0.3")
    runner = here.start()
    here.wait(round_is(1))
    here.store.put(keys.control(2), b'{"newer": true}')
    code, said = end_of(runner)
    assert code == 2, said
    assert "control/0002.json" in said
    assert "Traceback" not in said


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
    [({"seed": 7}, "seed cannot change once training has begun"), ({"rounds": "many"}, "rounds")],
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
    assert (here.workdir.logs / "trainer-bern.log").read_text(encoding="utf-8").count("crashed") == 3


def test_a_trainer_that_never_gets_anywhere_is_given_up(here: Here) -> None:
    here.behave("bern", crash="99")
    code, said = here.finish()
    assert code == 1
    assert "bern: left out, failed 6 times in a row without progress, last with exit code 1" in said


def control_of(here: Here) -> Control:
    records = here.records()
    assert records is not None
    assert records.control is not None
    return records.control


OTHER_DATA: dict[str, dict[str, Any]] = {
    "role": {"role": "Evaluation"},
    "dataSets": {"dataSets": [{"name": "ct", "path": ".", "layout": "MSD", "organs": {"spleen": [2]}}]},
    "split": {"split": {"train": 80, "validation": 10, "test": 10}},
}


@pytest.mark.parametrize("field", OTHER_DATA)
def test_a_member_that_changes_what_its_data_are_is_refused(here: Here, field: str) -> None:
    here.finish()
    here.owners["bern"] = OTHER_DATA[field]
    here.describe("basel", "bern")
    code, said = here.finish()
    assert code == 2
    assert f"SegVizSite default/bern: spec.{field} cannot change" in said
    assert "Traceback" not in said


def test_such_an_edit_while_it_runs_is_named_once_and_changes_nothing(here: Here) -> None:
    here.behave("bern", seconds="0.3")
    runner = here.start()
    here.wait(round_is(1))
    here.owners["bern"] = OTHER_DATA["split"]
    here.describe("basel", "bern")
    code, said = end_of(runner)
    assert (code, here.weight(), control_of(here).number) == (0, 4.0, 1), said
    assert said.count("warning: the edited manifest is not used. SegVizSite default/bern: spec.split") == 1


def test_a_refused_site_may_be_mended_in_its_manifest(here: Here) -> None:
    here.behave("bern", refuse="case_7 has the label 9, which spec.dataSets does not name")
    assert here.finish()[0] == 1
    (here.data("bern") / "refuse").unlink()
    data_set = {**here.site("bern")["spec"]["dataSets"][0], "background": [9]}
    here.owners["bern"] = {"dataSets": [data_set]}
    here.describe("basel", "bern")
    code, said = here.finish()
    assert (code, here.weight()) == (0, 4.0), said


def test_a_site_that_withdraws_its_consent_leaves_at_once_and_the_others_go_on(here: Here) -> None:
    here.behave("bern", seconds="30")
    here.owners = {"chur": ANNOTATES_LIVER, "basel": {"release": "HeadsAndNorm"}}
    here.describe("basel", "bern", evaluation=EXTERNAL)
    runner = here.start()
    here.wait(lambda records: records.newest_round == 0 and records.sites["bern"].heartbeat)
    bern = child_of(runner, "bern")
    here.owners["bern"] = {"allowedFederations": [], "split": {"train": 80, "validation": 10, "test": 10}}
    here.describe("basel", "bern", evaluation=EXTERNAL)
    code, said = end_of(runner)
    assert (code, bern.is_running()) == (0, False), said
    assert said.count("bern: has left: its owner withdrew consent") == 1
    records = here.records()
    assert records is not None
    assert records.rounds[3].participants == ("basel",)
    assert list(control_of(here).members) == ["basel"]


def test_withdrawn_consent_holds_in_the_next_run_and_minsites_decides(here: Here) -> None:
    here.behave("bern", seconds="30")
    here.describe("basel", "bern", participation={"minSites": 2})
    runner = here.start()
    here.wait(lambda records: records.newest_round == 0)
    runner.kill()
    runner.wait()
    here.owners["bern"] = {"allowedFederations": []}
    here.describe("basel", "bern", participation={"minSites": 2})
    code, said = here.finish()
    assert code == 1
    assert "bern: has left: its owner withdrew consent" in said
    assert "QuorumLost: round 1 " in said


def test_a_site_that_never_consented_is_refused(here: Here) -> None:
    here.finish()
    here.owners["chur"] = {"allowedFederations": []}
    here.describe("basel", "bern", "chur")
    code, said = here.finish()
    assert code == 2
    assert "has not consented to this federation" in said


def test_what_an_owner_says_about_release_holds_at_once(here: Here) -> None:
    here.behave("bern", seconds="0.3")
    runner = here.start()
    here.wait(round_is(1))
    before = child_of(runner, "bern")
    here.owners["bern"] = {"release": "Heads"}
    here.describe("basel", "bern")
    code, said = end_of(runner)
    assert (code, here.weight(), before.is_running()) == (0, 4.0, False), said
    assert (
        json.loads((here.workdir.state("bern") / "site.json").read_text(encoding="utf-8"))["release"]
        == "Heads"
    )


def test_a_new_organ_cannot_join_one_head_for_all(here: Here) -> None:
    marginal = {"objective": "Marginal", "algorithm": {"name": "FedAvg"}}
    here.owners = {alias: {"release": "Heads"} for alias in ("basel", "bern", "chur")}
    here.behave("bern", seconds="0.3")
    here.describe("basel", "bern", **marginal)
    runner = here.start()
    here.wait(round_is(1))
    here.describe("basel", "bern", "chur", **marginal)
    code, said = end_of(runner)
    assert (code, control_of(here).number) == (0, 1), said
    assert 'spec.sites[2] "chur" annotates pancreas, which no site annotated' in said


ANNOTATES_LIVER = {
    "role": "Evaluation",
    "dataSets": [{"name": "ct", "path": ".", "layout": "BTCV", "organs": {"liver": [6]}}],
}
EXTERNAL = {
    "sites": [{"alias": "chur", "siteRef": {"namespace": "default", "name": "chur"}}],
    "norm": "Adapted",
}


def test_a_lost_external_set_takes_no_other_result_along(here: Here) -> None:
    here.owners = {"chur": ANNOTATES_LIVER, "basel": {"release": "HeadsAndNorm"}}
    here.behave("chur", refuse="no images in there")
    here.describe("basel", "bern", evaluation=EXTERNAL)
    code, said = here.finish()
    assert code == 1
    assert "evaluation-chur: refused: no images in there" in said
    assert "0.50 ± 0.10" in said
    assert f"report {here.workdir.report_json}" in said
    assert str(here.workdir.models / "base") in said
    assert len(json.loads(here.workdir.report_json.read_text(encoding="utf-8"))["rows"]) == 2
    assert "0.50 ± 0.10" in segviz("status", here.workdir.root).stdout


def test_a_site_that_rests_is_named_by_status_from_another_terminal(here: Here) -> None:
    here.owners["bern"] = {"suspend": True}
    here.describe("basel", "bern")
    runner = here.start()
    here.wait(lambda records: records.sites.get("basel"))
    status = json.loads(segviz("status", here.workdir.root, "--json").stdout)["status"]
    assert "waiting for bern (suspended by its owner)" in status["reason"]
    os.killpg(runner.pid, signal.SIGINT)
    assert "bern: Suspended: suspended by its owner" in end_of(runner)[1]


def test_a_store_on_which_two_creates_can_win_is_refused(
    here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Forgetful(FolderStore):
        create = FolderStore.put

        def scoped(self, prefix: str) -> FolderStore:
            return self

    monkeypatch.setattr(identity, "open_store", lambda url, keys: Forgetful(Path(url)))
    request = Request(ManifestFiles((here.manifest,)), Volumes(None, {}), str(tmp_path / "store"), 0.05)
    with pytest.raises(Refusal, match="of two racing creates of one key, 2 won"):
        run_locally(request, here.workdir, Stop(), open_view(Console(file=io.StringIO())))
    assert not here.workdir.root.exists()


MISTAKES: dict[str, tuple[Callable[[Here], tuple[object, ...]], str]] = {
    "a manifest that is not there": (lambda here: (here.root / "none.yaml",), "none.yaml"),
    "a folder for a site that does not take part": (
        lambda here: (here.manifest, "--data", f"brn={here.root}"),
        "there is no site 'brn'. Did you mean bern?",
    ),
    "a folder that is not there": (
        lambda here: (here.manifest, "--data", "bern=/nowhere"),
        "site 'bern': --data bern=/nowhere is not a folder. Correct the path.",
    ),
    "a working folder that is a file": (
        lambda here: (here.manifest, "--workdir", here.manifest),
        "cannot be a --workdir",
    ),
    "a store of an unknown kind": (
        lambda here: (here.manifest, "--store", "gopher://x", "--workdir", here.root / "run"),
        "'gopher' is not a kind of store",
    ),
    "a store without a name": (
        lambda here: (here.manifest, "--store", "", "--workdir", here.root / "run"),
        "--store: is empty. Give s3://HOST/BUCKET or a folder",
    ),
    "a working folder where none can be": (
        lambda here: (here.manifest, "--workdir", "/proc/foo/w"),
        "/proc/foo/w: cannot be a --workdir",
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
    assert not (here.root / "run").exists()


def test_a_claim_needs_a_folder(here: Here) -> None:
    documents = list(yaml.safe_load_all(here.manifest.read_text(encoding="utf-8")))
    documents[2]["spec"]["volume"] = {"persistentVolumeClaim": {"claimName": "images"}}
    here.write(documents)
    ended = segviz("run", here.manifest)
    assert ended.returncode == 2
    assert "site 'bern': its images are in the claim 'images'" in ended.stderr
    assert "--data bern=FOLDER" in ended.stderr
    ended = segviz("run", here.manifest, "--data", f"brn={here.data('bern')}")
    assert "there is no site 'brn'. Did you mean bern?" in ended.stderr


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
    assert end["report"] == json.loads(here.workdir.report_json.read_text(encoding="utf-8"))
