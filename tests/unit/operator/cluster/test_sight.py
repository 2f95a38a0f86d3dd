"""Without its CRDs an operator is not ready, says so, and goes on by itself once they are there."""

from dataclasses import dataclass, field

import pytest

from segviz_operator.cluster.api.client import Away
from segviz_operator.cluster.api.sight import Sight

BOTH = frozenset({"segvizfederations", "segvizfederations/status", "segvizsites"})


@dataclass
class Served:
    """An API server that answers a question after the other like this."""

    answers: list[frozenset[str] | Exception] = field(default_factory=list)

    def served(self, api: str) -> frozenset[str]:
        assert api == "apis/segviz.dev/v1alpha1"
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_it_waits_until_all_kinds_are_served_and_says_what_is_missing(
    caplog: pytest.LogCaptureFixture,
):
    sight = Sight(Served([frozenset(), frozenset({"segvizsites"}), Away("no answer"), BOTH]))
    shown: list[tuple[int, bytes]] = []

    def sleep(_: float) -> None:
        shown.append((sight.page().status, sight.page().body))

    sight.wait(sleep)
    assert [status for status, _ in shown] == [503, 503, 503]
    assert b"segvizfederations, segvizsites" in shown[0][1]
    assert b"segvizfederations. Apply the CRDs" in shown[1][1]
    assert sight.page().status == 200
    assert "nothing is watched" in caplog.text


def test_crds_that_go_are_noticed_and_an_api_server_that_is_away_is_no_proof():
    sight = Sight(Served([BOTH, Away("no answer"), frozenset()]))
    assert [sight.look() for _ in range(3)] == [True, True, False]
    assert sight.page().status == 503
