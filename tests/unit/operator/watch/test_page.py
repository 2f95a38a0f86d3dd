"""The page without Grafana, from records."""

import re
from dataclasses import replace

import pytest

from builders.watched import running, watched
from segviz_exchange.contract.records import Closing, Exclusion
from segviz_operator.watch.curves import HEIGHT, WIDTH, Chart, Series, draw
from segviz_operator.watch.page import StatusPage, incidents


def shown(**query: str) -> str:
    return StatusPage(lambda: (watched(running()),))(query).body.decode()


def test_the_page_has_the_essentials_in_its_html() -> None:
    text = shown()
    for expected in (
        "radiology/abdomen",
        "Training",
        "basel",
        "liver 0.70",
        "Validation Dice by organ",
        "0.250",
    ):
        assert expected in text
    assert '<noscript><meta http-equiv="refresh"' in text


def test_nothing_is_fetched_from_elsewhere_and_the_policy_says_so() -> None:
    answer = StatusPage(lambda: (watched(running()),))({})
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    text = answer.body.decode()
    assert not re.search(r'(?:src|href)="(?!data:,|\?)', text)
    assert " style=" not in text, "the policy allows no style but the page's own sheet"
    nonces = set(re.findall(r'nonce="([^"]+)"', text))
    assert len(nonces) == 1
    assert nonces.pop() in answer.headers["Content-Security-Policy"]


def test_a_part_is_what_the_script_puts_in_place() -> None:
    assert "<html" not in shown(part="main")
    assert "basel" in shown(part="main")


def test_what_a_site_calls_itself_is_text() -> None:
    odd = watched(running())
    sites = tuple(
        type(site)(
            **{**{f: getattr(site, f) for f in site.__struct_fields__}, "phase": "Failed", "message": "<b>"}
        )
        for site in odd.status.sites
    )
    status = type(odd.status)(
        **{**{f: getattr(odd.status, f) for f in odd.status.__struct_fields__}, "sites": sites}
    )
    text = StatusPage(lambda: (replace(odd, status=status),))({}).body.decode()
    assert "&lt;b&gt;" in text


def test_several_federations_are_a_list_with_a_page_each() -> None:
    both = (watched(running()), replace(watched(running()), name="thorax"))
    page = StatusPage(lambda: both)
    assert "2 watched" in page({}).body.decode()
    assert "radiology/thorax" in page({"federation": "radiology/thorax"}).body.decode()
    assert page({"federation": "radiology/knee"}).status == 404
    assert StatusPage(lambda: ())({}).status == 200


def test_incidents_come_newest_first() -> None:
    records = running()
    closings = {number: Closing(number, 1, (), (Exclusion("bern", "NoUpdate", "late"),)) for number in (1, 2)}
    found = list(incidents(replace(watched(records), records=replace(records, closings=closings))))
    assert [(each.round, each.what) for each in found] == [
        (2, "not in the round: NoUpdate"),
        (1, "not in the round: NoUpdate"),
    ]


@pytest.mark.parametrize(
    ("points", "stacked"),
    [
        (((1.0, 0.0),), False),
        (((1.0, 0.0),), True),
        (((1.0, 2.0), (2.0, 3.0)), False),
        (((1.0, 2.0), (2.0, 3.0)), True),
        (((0.0, -1.0), (5e5, 1e6)), False),
    ],
)
def test_any_curve_stays_inside_its_picture(points: tuple[tuple[float, float], ...], stacked: bool) -> None:
    picture = draw(Chart("t", "d", "s" if stacked else "none", (Series("a", points),), stacked=stacked))
    for mark in picture.marks:
        assert 0 <= mark.x <= WIDTH
        assert -1 <= mark.y <= HEIGHT + 1
        assert mark.height >= 0
