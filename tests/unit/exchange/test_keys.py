"""The layout of a bucket. It outlives versions: what one has written, the next must find."""

import inspect

import pytest

from segviz_exchange.contract import keys

DIGEST = "ab" * 32

LAYOUT = {
    "federation_prefix": (
        ("radiology", "abdomen", "1a2b3c4d"),
        "radiology/abdomen-1a2b3c4d/",
    ),
    "control": ((7,), "control/0007.json"),
    "holder": ((2,), "control/holders/0002.json"),
    "closing": ((7,), "global/closings/0007.json"),
    "round_record": ((7,), "global/rounds/0007.json"),
    "failure": ((7, 12), "global/failures/0007/0012.json"),
    "global_blob": ((DIGEST,), f"global/blobs/{DIGEST}"),
    "all_rejections": (("basel",), "global/rejections/basel/"),
    "rejections": (("basel", 7), "global/rejections/basel/0007/"),
    "rejection": (("basel", 7, 2), "global/rejections/basel/0007/2.json"),
    "site": (("basel",), "sites/basel/"),
    "leases": (("basel",), "sites/basel/leases/"),
    "lease": (("basel", 3), "sites/basel/leases/000003.json"),
    "all_updates": (("basel",), "sites/basel/updates/"),
    "updates": (("basel", 7), "sites/basel/updates/0007/"),
    "update": (("basel", 7, 2), "sites/basel/updates/0007/2.json"),
    "site_blob": (("basel", DIGEST), f"sites/basel/blobs/{DIGEST}"),
    "all_scores": (("basel",), "sites/basel/scores/"),
    "scores": (("basel", 7), "sites/basel/scores/0007.json"),
    "outcome": (("basel",), "sites/basel/outcome.json"),
    "release_blob": (("basel", DIGEST), f"sites/basel/release/{DIGEST}"),
    "fingerprint": (("basel",), "sites/basel/fingerprint.json"),
    "external_scores": (("zurich",), "sites/zurich/external.json"),
    "progress": (("basel",), "sites/basel/progress.json"),
    "credentials": (("basel",), "sites/basel/credentials/"),
    "credential": (("basel", 3), "sites/basel/credentials/000003.json"),
    "preflights": (("basel",), "sites/basel/preflight/"),
    "preflight": (("basel", 3), "sites/basel/preflight/000003.json"),
    "exported": (("base",), "export/base.json"),
    "exported_blob": ((DIGEST,), f"export/blobs/{DIGEST}"),
}
PLACES = {
    "CONTROLS": "control/",
    "HOLDERS": "control/holders/",
    "GLOBAL": "global/",
    "CLOSINGS": "global/closings/",
    "ROUNDS": "global/rounds/",
    "FAILURES": "global/failures/",
    "REJECTIONS": "global/rejections/",
    "SITES": "sites/",
    "FINAL": "global/final.json",
    "EXPORTS": "export/",
    "AGGREGATOR_PROGRESS": "global/progress.json",
}
READERS = {"federation_of", "has_rows", "is_news", "number_of", "number_below", "rejected"}


@pytest.mark.parametrize("name", LAYOUT)
def test_a_key_is_what_it_has_always_been(name: str) -> None:
    arguments, key = LAYOUT[name]
    assert getattr(keys, name)(*arguments) == key


def test_the_places_are_what_they_have_always_been() -> None:
    assert {name: value for name, value in vars(keys).items() if name.isupper() and name[0] != "_"} == PLACES


def test_the_layout_above_is_the_whole_one() -> None:
    functions = {name for name, _ in inspect.getmembers(keys, inspect.isfunction)}
    # A mutation tester adds functions of its own beside them.
    assert {name for name in functions if "mutmut" not in name} == LAYOUT.keys() | READERS


def test_a_number_that_outgrows_its_padding_stays_whole() -> None:
    assert keys.round_record(12345) == "global/rounds/12345.json"
    assert keys.lease("basel", 1234567) == "sites/basel/leases/1234567.json"


def test_the_number_of_a_key_is_read_back() -> None:
    assert keys.number_of("global/rounds/0007.json") == 7
    assert keys.number_of("sites/basel/updates/0007/12.json") == 12


def test_a_rejection_says_by_its_key_whose_attempt_it_is() -> None:
    assert keys.rejected(keys.rejection("basel", 7, 12)) == ("basel", 7, 12)


@pytest.mark.parametrize(
    ("key", "has"),
    [
        (keys.outcome("basel"), True),
        (keys.external_scores("basel"), True),
        (keys.scores("basel", 7), False),
        (keys.site("basel") + "deeper/outcome.json", False),
        ("outcome.json", False),
        (keys.FINAL, False),
    ],
)
def test_outcomes_and_external_scores_have_rows_and_nothing_else(key: str, has: bool) -> None:
    assert keys.has_rows(key) is has


@pytest.mark.parametrize(
    ("key", "is_news"),
    [
        (keys.progress("basel"), False),
        (keys.AGGREGATOR_PROGRESS, False),
        (keys.update("basel", 7, 1), True),
        (keys.site("basel") + "no-progress.json", True),
    ],
)
def test_a_heartbeat_is_no_news(key: str, is_news: bool) -> None:
    assert keys.is_news(key) is is_news


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("control/0012.json", 12),
        ("control/999999999999999999.json", 999_999_999_999_999_999),
        ("control/1000000000000000000.json", None),
        ("control/deeper/0012.json", None),
        ("elsewhere/0012.json", None),
        ("control/0012.json.partial", None),
        ("control/.json", None),
        ("control/0012xjson", None),
    ],
)
def test_only_a_numbered_record_right_below_a_prefix_has_a_number(key: str, number: int | None) -> None:
    assert keys.number_below("control/", key) == number


@pytest.mark.parametrize(
    "uid", ["1a2b3c4d", "3f1c2a9e-0b7d-4c55-9a10-6f2b8e4d7c31"], ids=["a local run's", "Kubernetes'"]
)
def test_a_prefix_tells_whose_it_is(uid: str) -> None:
    assert keys.federation_of(keys.federation_prefix("radiology", "ct-abdomen", uid)) == (
        "radiology",
        "ct-abdomen",
    )


@pytest.mark.parametrize("name", ["run-1a2b3c4", "run-1a2b3c4dx", "run-1a2b3c4d-x", "run-1A2B3C4D"])
def test_what_only_resembles_a_uid_belongs_to_the_name(name: str) -> None:
    assert keys.federation_of(f"radiology/{name}/") == ("radiology", name)


def test_a_prefix_may_lie_below_others() -> None:
    assert keys.federation_of("/shared/radiology/abdomen-1a2b3c4d/") == ("shared/radiology", "abdomen")


def test_a_prefix_without_a_namespace_is_a_name() -> None:
    assert keys.federation_of("abdomen/") == ("", "abdomen")
