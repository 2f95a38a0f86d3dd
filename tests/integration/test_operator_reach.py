"""An operator of single namespaces, whose right to look at a site comes and goes with the site's consent."""

from integration.operator_rig import Rig
from segviz_operator.cluster.api import reach
from segviz_operator.cluster.api.client import JOBS, Away, Cluster, Forbidden, Kind


class Fenced(Cluster):
    """Answers as an API server would that forbids, or does not answer, in some namespaces."""

    def __init__(self, errors: dict[str, Exception]) -> None:
        self.errors = errors

    def list(self, kind: Kind, namespace: str, **selectors: str) -> list:
        if namespace in self.errors:
            raise self.errors[namespace]
        return []


def test_what_is_forbidden_is_not_watched_and_silence_changes_nothing():
    cluster = Fenced({"bern": Forbidden("no"), "chur": Away("no answer"), "thun": Away("no answer")})
    found = reach.reachable(cluster, ("basel", "bern", "chur", "thun"), ("bern", "chur"))
    assert found == ("basel", "chur")


def test_an_operator_outlives_a_namespace_that_it_may_not_watch(rig: Rig):
    """The site of that namespace is absent, the others train."""
    rig.begin("basel", "bern", participation={"minSites": 1})
    token = rig.account(without=f"{rig.tag}-bern")
    rig.start_operator(token)
    rig.until_condition("Complete")
    assert rig.site("bern")["phase"] == "Absent"
    assert {job["metadata"]["namespace"] for job in rig.objects(JOBS)} == {rig.tag, f"{rig.tag}-basel"}
