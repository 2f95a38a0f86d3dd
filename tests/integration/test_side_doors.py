"""Files may be called after patients: no name of one is in anything that leaves a site."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from builders.federations import build_spec
from builders.rig import Rig, algorithm, site_spec, small_federation
from segviz_exchange.contract import choices, keys
from segviz_exchange.contract.choices import AlgorithmName
from segviz_exchange.contract.ledger import newest_control, read
from segviz_exchange.contract.progress import Preflight
from segviz_exchange.contract.records import Outcome
from segviz_exchange.contract.site_spec import Privacy, SiteSpec
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.http_pages import Answer
from segviz_operator.cluster.status.events import events_between
from segviz_operator.cluster.status.federation_status import Picture, build_federation_status
from segviz_operator.machine.processes import Processes
from segviz_operator.plan.decide import CreateWorkload
from segviz_operator.plan.workload import WorkloadRole
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.report import as_csv, build_report
from segviz_operator.progress.status import build_status
from segviz_operator.watch.metrics import FederationMetrics
from segviz_operator.watch.page import StatusPage
from segviz_operator.watch.samples import Watched
from segviz_trainer.participation.preflight import examine
from segviz_trainer.process.site import Site

MARK = "MEIER_ANNA_19470312"
SITES = {"basel": ("liver",), "bern": ("spleen",)}
PRIVACY = Privacy(clip_norm=0.5, delta=1e-5, noise_multiplier=0.01)


def mark(folder: Path) -> Path:
    """Call every file of a data set after a patient."""
    for path in folder.glob("*.nii.gz"):
        path.rename(folder / f"{MARK}_{path.name}")
    listing = folder / "cases.csv"
    text = listing.read_text(encoding="utf-8").replace("image0", f"{MARK}_image0")
    listing.write_text(text.replace("label0", f"{MARK}_label0"), encoding="utf-8")
    return folder


def marked_in(folder: Path) -> list[str]:
    """Files below `folder` that have the mark in their name or bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        str(path)
        for path in files
        if MARK in str(path.relative_to(folder)) or MARK.encode() in path.read_bytes()
    ]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


# --- a federation from beginning to end -------------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """Two sites that release all they may, leave a case out and have files that belong to none."""
    changes = {
        "on_bad_case": choices.OnBadCase.SKIP,
        "scores": choices.Scores.PER_CASE,
        "release": choices.Release.HEADS_AND_NORM,
        "privacy": PRIVACY,
    }
    spec = small_federation(algorithm=algorithm(AlgorithmName.FED_AVG), rounds=1, local_epochs=1)
    rig = Rig(tmp_path_factory.mktemp("ended"), spec, SITES, changes=changes)
    for alias in SITES:
        folder = mark(rig.folder / "data" / alias)
        cut_short(folder / f"{MARK}_image03.nii.gz")
        (folder / f"{MARK}_of_no_case.nii.gz").touch()
    rig.control()
    control = newest_control(rig.store)
    assert control is not None
    for alias in SITES:
        site = Site(alias, rig.site_spec(alias), rig.folder / "data" / alias, rig.folder / "state" / alias)
        site.state.mkdir(parents=True)
        examine(rig.store, site, control, 1)
    rig.run()
    rig.evaluate("basel")
    return rig


def test_nothing_in_the_bucket_names_a_file(ended: Rig) -> None:
    assert len(list((ended.folder / "bucket").rglob("*.json"))) > 10
    assert marked_in(ended.folder / "bucket") == []
    outcome = read(ended.store, keys.outcome("basel"), Outcome)
    assert outcome.variants["base"].cases, "case rows leave, under ids that only the site can trace back"


def test_nothing_that_is_exported_names_a_file(ended: Rig) -> None:
    assert marked_in(ended.folder / "models") == []


def test_the_sites_own_files_have_the_names(ended: Rig) -> None:
    """Otherwise these tests would look for something that is nowhere."""
    assert len(marked_in(ended.folder / "data")) > 2 * 2 * 10


def shown(rig: Rig) -> Iterator[str]:
    """All that an operator makes of what is in the bucket."""
    records = Observer(rig.store).read()
    summary = build_status("radiology/abdomen", records)
    yield msgspec.json.encode(summary).decode()
    now = datetime(2026, 11, 24, tzinfo=UTC)
    picture = Picture(1, build_spec(), now, records=records, summary=summary)
    status = build_federation_status(picture, {})
    yield json.dumps(status)
    yield from (event.message for event in events_between({}, status))
    watched = Watched("radiology", "abdomen", summary, records, now)
    metrics = FederationMetrics()
    metrics.show(watched)
    yield metrics.text().decode()
    page: Answer = StatusPage(lambda: (watched,))({})
    yield page.body.decode()
    if report := build_report("abdomen", records, None):
        yield msgspec.json.encode(report).decode()
        yield as_csv(report)


def test_nothing_that_the_operator_shows_names_a_file(ended: Rig) -> None:
    texts = list(shown(ended))
    assert len(texts) > 6
    assert [text for text in texts if MARK in text] == []


# --- sites that cannot take part --------------------------------------------------------------------------


def bad_case(data: Path) -> None:
    cut_short(data / f"{MARK}_image03.nii.gz")
    cut_short(data / f"{MARK}_image05.nii.gz")


def lost_label(data: Path) -> None:
    (data / f"{MARK}_label02.nii.gz").unlink()


def twice(data: Path) -> None:
    listing = data / "cases.csv"
    rows = listing.read_text(encoding="utf-8").splitlines()
    listing.write_text("\n".join([*rows, rows[1]]) + "\n", encoding="utf-8")


def crash(data: Path) -> None:
    """What no check foresees: a name in an error that nobody catches."""
    state = data.parent.parent / "state/basel"
    state.mkdir(parents=True)
    (state / "cache").symlink_to(f"/proc/{MARK}")


FAILING = {
    "bad cases": (bad_case, Exit.REFUSED, "2 of 10 cases cannot be used. The log of the site's own trainer"),
    "a label that is not there": (
        lost_label,
        Exit.REFUSED,
        "Data: spec.dataSets[0].path: the data set cannot",
    ),
    "a case that is listed twice": (twice, Exit.REFUSED, "Data: spec.dataSets[0].path: the data set cannot"),
    "a crash": (crash, 1, "Error"),
}
# One interpreter for all: importing torch takes longer than any of them.
RUN_EACH = """
import json, os, sys
from segviz_trainer.__main__ import main
for words, ending in json.loads(sys.argv[1]):
    os.environ["SEGVIZ_ENDING_FILE"] = ending
    try:
        main(words, standalone_mode=False)
    except SystemExit as ended:
        print(int(ended.code), flush=True)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        print(1, flush=True)
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Rig, int, str]]:
    """The rig, the exit code and what it said at its end to others, of each."""
    rigs, each = {}, []
    for name, (spoil, _, _) in FAILING.items():
        rig = Rig(tmp_path_factory.mktemp("failed"), small_federation(), {"basel": ("liver",)})
        rig.control()
        spoil(mark(rig.folder / "data/basel"))
        file = rig.folder / "site.json"
        spec: SiteSpec = site_spec(("liver",))
        file.write_bytes(msgspec.json.encode(spec))
        words = ["participate", "--store", str(rig.folder), "--prefix", "bucket/", "--site", "basel"]
        words += ["--site-spec", str(file), "--data-root", str(rig.folder / "data/basel")]
        words += ["--state", str(rig.folder / "state/basel"), "--poll-seconds", "0.1"]
        each.append((words, str(rig.folder / "ending")))
        rigs[name] = rig
    done = subprocess.run(
        [sys.executable, "-c", RUN_EACH, json.dumps(each)],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    codes = [int(line) for line in done.stdout.split()]
    assert done.stderr.count(MARK) >= len(FAILING), "the site's own log names them"
    return {name: (rig, code, done.stderr) for (name, rig), code in zip(rigs.items(), codes, strict=True)}


@pytest.mark.parametrize("name", FAILING)
def test_a_site_that_fails_says_how_many_and_where_to_look_and_never_which(
    failed: dict[str, tuple[Rig, int, str]], name: str
) -> None:
    rig, code, log = failed[name]
    _, expected, told = FAILING[name]
    assert code == expected, log
    ending = (rig.folder / "ending").read_text(encoding="utf-8")
    assert told in ending
    assert MARK not in ending
    assert marked_in(rig.folder / "bucket") == []
    assert [text for text in shown(rig) if MARK in text] == []


def test_a_finding_about_data_is_told_without_names(failed: dict[str, tuple[Rig, int, str]]) -> None:
    rig, _, _ = failed["a label that is not there"]
    found = read(rig.store, keys.preflight("basel", 1), Preflight).findings
    (data,) = (each for each in found if each.check == "Data")
    assert data.message.startswith("spec.dataSets[0].path: the data set cannot be used. The log of the")


# --- a process that says nothing --------------------------------------------------------------------------

LOUD = f"import logging, os, sys; print('reading {MARK}_image03.nii.gz', flush=True); "
ENDS = {
    "killed by the kernel": ("basel", LOUD + "os.kill(os.getpid(), 9)", ""),
    "ended without a word": ("basel", LOUD + "sys.exit(1)", ""),
    "ended with a word for others": (
        "basel",
        LOUD + "from segviz_exchange.process.logs import say_why; "
        f"say_why(logging.getLogger(), 'bad {MARK}', '1 of 2 cases'); sys.exit(20)",
        "1 of 2 cases",
    ),
    "crashed": (
        "basel",
        LOUD + "from segviz_exchange.process import logs; logs.configure('trainer', 'a/b', 'basel'); "
        f"open('/none/{MARK}')",
        "FileNotFoundError",
    ),
    "an aggregator, which has no files": (None, "print('no quorum', flush=True); sys.exit(1)", None),
}


@pytest.mark.parametrize(("site", "script", "told"), ENDS.values(), ids=ENDS)
def test_of_a_sites_process_only_what_it_says_for_others_is_told(
    site: str | None, script: str, told: str | None, tmp_path: Path
) -> None:
    processes = Processes(tmp_path / "logs")
    role = WorkloadRole.TRAINER if site else WorkloadRole.AGGREGATOR
    processes.create(CreateWorkload(role, site, attempt=1), (sys.executable, "-c", script), {})
    deadline = time.monotonic() + 60
    while processes.observe()[0].running and time.monotonic() < deadline:
        time.sleep(0.02)
    (ended,) = processes.observe()
    if told is None:
        assert ended.message
    else:
        assert ended.message == told
        assert MARK in processes.log(role, site).read_text(encoding="utf-8")
