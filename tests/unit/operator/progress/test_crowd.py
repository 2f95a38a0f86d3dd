"""A federation of 256 sites: what matters comes first, the rest is counted, and each can be found."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from builders.federations import build_spec
from builders.snapshots import NOON, snapshot
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Control, Dice, Member, RoundScores
from segviz_operator.cli.cluster_view import render_federation
from segviz_operator.cluster.status.bounds import MOST_BYTES, within_bounds
from segviz_operator.cluster.status.federation_status import Picture, build_federation_status, shared_groups
from segviz_operator.manifests.schema import FEDERATION
from segviz_operator.progress.crowd import MANY, counted, named, worst_first
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.status import build_status
from segviz_operator.terminal.screen import render_status
from segviz_operator.watch.curves import Chart, Series, draw
from segviz_operator.watch.page import StatusPage
from segviz_operator.watch.samples import Sample, Watched, samples_of

SITES = tuple(f"site-{number:03}" for number in range(256))
LOST = "site-200"


@pytest.fixture(scope="module")
def records() -> FederationRecords:
    organs, spec = ("liver", "spleen"), build_spec(("basel",))
    members = {
        alias: Member(organs, "refused: its disk is full" if alias == LOST else None) for alias in SITES
    }
    work = Progress(lease=1, phase=Phase.TRAINING, round=3, epoch=0, step=1, steps=4, loss=0.5)
    scores = tuple(
        RoundScores(alias, round_, {organ: Dice(0.8, 0.1, 3) for organ in organs})
        for alias in SITES
        for round_ in (1, 2)
    )
    return snapshot(
        Control(1, spec, members, spec.suspend),
        rounds={0: 300, 1: 200, 2: 100},
        scores=scores,
        progress={alias: work for alias in SITES if alias != LOST},
    )


def printed(what: Any) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_few_stay_in_their_order() -> None:
    assert worst_first(["Training", "Failed"], str) == ["Training", "Failed"]


def test_of_many_the_worst_come_first_and_equals_in_their_order() -> None:
    phases = [*["Training"] * MANY, "Done", "Absent", "Failed", "Silent"]
    assert worst_first(phases, str) == ["Failed", "Absent", "Silent", *["Training"] * MANY, "Done"]
    assert counted(phases) == f"1 Failed, 1 Absent, 1 Silent, {MANY} Training, 1 Done"


@pytest.mark.parametrize(
    ("pattern", "found"), [("north", True), ("NORTH-1", True), ("north-*", True), ("nort?", False)]
)
def test_a_site_is_found_by_a_part_of_its_name_or_a_pattern(pattern: str, found: bool) -> None:
    assert named("north-1", pattern) is found


def test_the_terminal_shows_a_screen_of_them(records: FederationRecords) -> None:
    text = printed(render_status(build_status("abdomen", records)))
    assert text.index(LOST) < text.index("site-000")
    assert "24 of 256 sites are shown: 1 LeftOut, 255 Training." in text.replace("\n", " ")
    assert len(text.splitlines()) < 2 * MANY + 12
    assert max(map(len, text.splitlines())) <= 80


def test_the_terminal_finds_one(records: FederationRecords) -> None:
    text = printed(render_status(build_status("abdomen", records), "*-117"))
    assert "site-117" in text
    assert "site-000" not in text
    assert "1 of 256 sites" in text


def status_in_cluster(records: FederationRecords) -> dict[str, Any]:
    summary = build_status("abdomen", records)
    picture = Picture(1, build_spec(("basel",)), NOON, records=records, summary=summary)
    return build_federation_status(picture, {})


def test_so_does_the_status_of_a_cluster(records: FederationRecords) -> None:
    raw = {
        "metadata": {"namespace": "radiology", "name": "abdomen"},
        "spec": {"rounds": 3},
        "status": status_in_cluster(records),
    }
    text = printed(render_federation(raw))
    assert text.index(LOST) < text.index("site-000")
    assert "24 of 256 sites are shown: 1 LeftOut, 255 Training." in text.replace("\n", " ")
    assert "site-117" in printed(render_federation(raw, "117"))


def test_the_page_counts_them_and_has_a_search(records: FederationRecords) -> None:
    status = build_status("abdomen", records)
    watched = Watched("radiology", "abdomen", status, records, NOON)
    text = StatusPage(lambda: (watched,))({}).body.decode()
    assert text.index(f"<b>{LOST}") < text.index("<b>site-000")
    assert "256 sites, the worst first: 1 LeftOut, 255 Training" in text
    assert '<input id="find" type="search"' in text
    assert f'data-find="{LOST} leftout"' in text


def test_a_picture_says_how_many_of_its_lines_it_shows() -> None:
    series = tuple(Series(alias, ((1.0, 0.5), (2.0, 0.4))) for alias in SITES)
    drawing = draw(Chart("Training loss by site", "Mean.", "none", series))
    assert drawing.description == "Mean. The first 8 of 256."
    assert len(drawing.names) == 8


def test_the_metrics_grow_with_sites_and_organs_and_not_with_rounds(records: FederationRecords) -> None:
    watched = Watched("radiology", "abdomen", build_status("abdomen", records), records, NOON)
    series = [each for each in samples_of(watched) if isinstance(each, Sample)]
    of_sites = [each for each in series if each.labels and each.labels[0] in SITES]
    assert len(of_sites) <= 256 * 24
    assert len(series) - len(of_sites) <= 64


def test_the_status_fits_where_all_sites_own_all_organs() -> None:
    """256 sites that each annotate TotalSegmentator's 104 organs: who shares what is then the longest."""
    organs, spec = tuple(f"organ-{number}" for number in range(104)), build_spec(("basel",))
    aliases = [f"{alias:x<63}" for alias in SITES]
    control = Control(1, spec, {alias: Member(organs) for alias in aliases}, suspend=False)
    sites = [{"alias": alias, "phase": "Training", "ready": True} for alias in aliases]
    said = {"observedGeneration": 1, "sharing": shared_groups(control), "sites": sites}
    status = within_bounds(FEDERATION, said)
    assert len(msgspec.json.encode(status)) <= MOST_BYTES
    assert status["sites"] == sites
