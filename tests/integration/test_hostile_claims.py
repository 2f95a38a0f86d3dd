"""What a site claims of itself, where nobody can look: how much that decides."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from builders.rig import site_spec
from builders.rounds import started, until_waiting
from builders.snapshots import NOON
from builders.synthetic import (
    BASEL,
    BERN,
    CHUR,
    control_of,
    deliver,
    deliver_initial,
    model_of,
    scores_of,
    shared_part,
    update_of,
)
from segviz_aggregator.loop import Aggregator
from segviz_aggregator.selection import choose_final
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import Weights
from segviz_exchange.contract.closing import MAX_CASES_RATIO, weights_of
from segviz_exchange.contract.codec import open_tensors
from segviz_exchange.contract.ledger import commit, encode, newest_control, read
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Closing, Control, Round, RoundScores
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.plan.decide import MAX_FAILURES, Desired, WriteControl, decide
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.remote import remote_workloads

DAVOS = "davos"
ORGANS = {BASEL: ("liver",), BERN: ("liver",), CHUR: ("liver",), DAVOS: ("liver",)}
BY_CASES = control_of(ORGANS, weights=Weights.CASES, rounds=3)
MILLION = 1_000_000


def weights(*claims: int, admitted: dict[str, int] | None = None, control: Control = BY_CASES) -> list[int]:
    delivered = {site: update_of(site, cases=claim) for site, claim in zip(ORGANS, claims, strict=False)}
    return list(weights_of(delivered, admitted or {}, control).values())


@pytest.mark.parametrize(
    ("claims", "weigh"),
    [
        ((41, 131, 281, 210), [41, 131, 281, 210]),  # as honest ones are
        ((40, 40, MILLION), [40, 40, 40 * MAX_CASES_RATIO]),
        ((MILLION, 40, 40, 40), [40 * MAX_CASES_RATIO, 40, 40, 40]),
        ((1, 2), [1, 2]),
        ((1, MILLION), [1, MAX_CASES_RATIO]),
        ((1, 1, 1, 1), [1, 1, 1, 1]),
        ((MILLION,), [MILLION]),  # alone, its weight means nothing
    ],
)
def test_a_claim_weighs_at_most_so_many_times_what_the_others_do(
    claims: tuple[int, ...], weigh: list[int]
) -> None:
    assert weights(*claims) == weigh


def test_of_uniform_weights_no_claim_is_heard() -> None:
    assert weights(MILLION, 1, control=control_of(ORGANS)) == [1, 1]


def test_a_claim_never_grows(tmp_path: Path) -> None:
    """What counts is what the site said when it was admitted, whoever merges."""
    store = started(tmp_path / "store", BY_CASES)
    deliver_initial(store, BY_CASES)
    parts = {
        site: shared_part(model_of(BY_CASES, seed=position), site, BY_CASES)
        for position, site in enumerate(ORGANS)
    }
    until_waiting(Aggregator(store, tmp_path / "scratch"))
    for round_ in (1, 2):
        for site, part in parts.items():
            deliver(store, site, round_, part, cases=MILLION if site == CHUR else 7)
        until_waiting(Aggregator(store, tmp_path / f"scratch-{round_}"))
        closing = read(store, keys.closing(round_), Closing)
        assert [each.weight for each in closing.participants] == [7, 7, 10, 7]
    merged = open_tensors(store.root / keys.global_blob(read(store, keys.round_record(1), Round).blob)).read(
        "body.conv"
    )
    liar = parts[CHUR]["body.conv"]
    others = np.mean([part["body.conv"] for site, part in parts.items() if site != CHUR], axis=0)
    assert np.linalg.norm(merged - others) < np.linalg.norm(merged - liar)


# --- which round's model is the federation's ----------------------------------------------------------


def test_of_three_owners_one_s_claim_chooses_no_round() -> None:
    control = control_of({BASEL: ("liver",), BERN: ("liver",), CHUR: ("liver",)}, rounds=2)
    scores: dict[int, dict[str, RoundScores]] = {}
    for round_, honest, lie in ((1, 0.5, 1.0), (2, 0.7, 0.0)):
        scores[round_] = {site: scores_of(control, site, round_, honest) for site in (BASEL, BERN)}
        scores[round_][CHUR] = scores_of(control, CHUR, round_, lie)
    assert choose_final(control, scores, Round(2, 1, "0" * 64, 1, ())).round == 2


# --- what makes a control ---------------------------------------------------------------------------------


class Outside:
    """A federation with a site outside, which is seen by its heartbeats alone."""

    def __init__(self, folder: Path) -> None:
        self.store = FolderStore(folder)
        self.control = control_of({BASEL: ("liver",), BERN: ("liver",)}, min_sites=1)
        self.remote = {BERN: structs.replace(site_spec(("liver",)), remote=True)}
        self.turn()

    def beat(self, phase: Phase, message: str, lease: int = 1) -> None:
        self.store.put(keys.progress(BERN), encode(Progress(lease, phase, message)))
        self.turn()

    def turn(self) -> None:
        records = Observer(self.store).read()
        organs = {alias: member.organs for alias, member in self.control.members.items()}
        observed = records.observed(remote_workloads(self.remote, records))
        for action in decide(Desired(self.control.spec, organs), observed, NOON):
            if isinstance(action, WriteControl):
                commit(self.store, keys.control(action.control.number), action.control)

    @property
    def newest(self) -> Control:
        control = newest_control(self.store)
        assert control is not None
        return control


def test_the_text_of_a_heartbeat_makes_no_control(tmp_path: Path) -> None:
    federation = Outside(tmp_path)
    for number in range(50):
        federation.beat(Phase.FAILED, f"refused, and that is reason {number}")
    assert federation.newest.number == 2
    assert federation.newest.members[BERN].excluded == "refused: refused, and that is reason 0"


def test_a_site_that_comes_and_goes_stays_out_in_the_end(tmp_path: Path) -> None:
    federation = Outside(tmp_path)
    for number in range(50):
        federation.beat(Phase.FAILED, "no", lease=number)
        federation.beat(Phase.WAITING, "yes", lease=number)
    assert federation.newest.number <= 1 + 2 * MAX_FAILURES
    assert federation.newest.members[BERN].excluded is not None


def test_a_site_that_was_mended_is_taken_back(tmp_path: Path) -> None:
    federation = Outside(tmp_path)
    federation.beat(Phase.FAILED, "its data are not there")
    federation.beat(Phase.PREPARING, "", lease=2)
    assert federation.newest.members[BERN].excluded is None
    federation.beat(Phase.FAILED, "the disk is full", lease=2)
    assert federation.newest.members[BERN].excluded == "refused: the disk is full"
