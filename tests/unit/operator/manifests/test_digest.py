"""What the operator remembers of a site must outlive an upgrade of the operator."""

import msgspec
import pytest

from builders.mistakes import build_site
from segviz_operator.manifests.digest import digest
from segviz_operator.manifests.manifest import Site, parse
from segviz_operator.manifests.past import DigestedSite


@pytest.fixture
def site() -> Site:
    found = parse(build_site())
    assert isinstance(found, Site)
    return found


def test_the_digests_of_a_site_are_those_of_yesterday(site: Site) -> None:
    """They lie in the annotations of federations at work. Where this fails, those would all be refused."""
    assert DigestedSite.of(site.key, site.spec).fixed == {
        "role": "5442c90c567c6e56",
        "dataSets": "8997539318bad371",
        "split": "36ce74230ad11bf8",
        "maxCaseMebibytes": "bfa0ec8bdf294654",
    }


def test_an_optional_field_of_a_newer_version_changes_nothing() -> None:
    class Now(msgspec.Struct):
        name: str
        organs: dict[str, list[int]]

    class Newer(Now):
        window: list[int] | None = None
        ignored: tuple[int, ...] = ()

    organs = {"liver": [1, 2]}
    assert digest([Now("ct", organs)]) == digest([Newer("ct", organs)])
    assert digest([Newer("ct", organs, ignored=(3,))]) != digest([Newer("ct", organs)])
    assert digest([Newer("ct", organs, window=[0])]) != digest([Newer("ct", organs)])


def test_nothing_that_is_said_is_lost() -> None:
    said = [0, False, "", "a", [1, 2], [2, 1], {"a": 0}, {"b": 0}, [[1], 2], [1, [2]]]
    assert len({digest(each) for each in said}) == len(said)
