"""A store that lists late what can be read already: no site is at fault for that."""

from pathlib import Path

from builders.disturbances import Around
from builders.rounds import ROUNDS, after_round_0, deliver_round, finish, started, until_waiting
from builders.synthetic import control_of, write_control
from segviz_aggregator.loop import Aggregator
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.records import Final, Round
from segviz_exchange.stores.store import Entry


class Late(Around):
    """Lists no blob yet, and no control but the first."""

    def list(self, prefix: str) -> list[Entry]:
        return [each for each in super().list(prefix) if not is_late(each.key)]


def is_late(key: str) -> bool:
    return "/blobs/" in key or (key.startswith(keys.CONTROLS) and key != keys.control(1))


def test_an_update_whose_blob_or_control_is_not_listed_yet_is_read_all_the_same(tmp_path: Path) -> None:
    store, _ = after_round_0(tmp_path)
    newer = write_control(store, control_of(rounds=ROUNDS, number=2))
    deliver_round(store, newer, 1)
    until_waiting(Aggregator(Late(store), tmp_path / "scratch"))
    assert len(read(store, keys.round_record(1), Round).participants) == len(newer.active)
    assert store.list(keys.REJECTIONS) == []


def test_the_best_round_is_chosen_though_no_model_is_listed_yet(tmp_path: Path) -> None:
    store = started(tmp_path / "store")
    finish(Aggregator(Late(store), tmp_path / "scratch"), store)
    best = 2
    assert read(store, keys.FINAL, Final).round == best < ROUNDS
