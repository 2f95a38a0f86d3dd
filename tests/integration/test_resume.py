"""Whatever dies, and whenever: the same bytes as undisturbed."""

from pathlib import Path

import pytest

from builders.rig import Patience, Rig, small_federation
from segviz_exchange.contract import keys, spec
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.records import Closing
from segviz_exchange.process.stopping import Stopped
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.store import Unavailable
from segviz_trainer.process.heartbeat import Superseded

TWO = {"basel": ("liver",), "bern": ("spleen",)}
TUNED = small_federation(fine_tuning=spec.FineTuning(1, 1e-2))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    rig = Rig(tmp_path_factory.mktemp("undisturbed"), TUNED, TWO)
    rig.control()
    rig.run()
    return rig.digests()


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 11, 13])
def test_a_site_stopped_at_any_step_goes_on_bit_for_bit(
    tmp_path: Path, undisturbed: dict[str, str], steps: int
) -> None:
    rig = Rig(tmp_path, TUNED, TWO)
    rig.control()
    sites = {"basel": rig.site("basel", stop=Patience(steps)), "bern": rig.site("bern")}
    with pytest.raises(Stopped):
        rig.drive(sites, rig.aggregator())
        rig.conclude(sites)
    assert rig.run() is not None
    assert rig.digests() == undisturbed


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


class DyingStore:
    """Dies before or after the n-th write."""

    WRITES = ("create", "put", "upload")

    def __init__(self, store: object, writes: int, after: bool) -> None:
        self._store, self._left, self._after = store, writes, after

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)
        if name not in self.WRITES:
            return method

        def write(*args: object) -> object:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            result = method(*args)
            if self._left == 0:
                raise Killed
            return result

        return write


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("writes", range(1, 16))
def test_a_site_killed_at_any_write_goes_on_bit_for_bit(
    tmp_path: Path, undisturbed: dict[str, str], writes: int, after: bool
) -> None:
    rig = Rig(tmp_path, TUNED, TWO)
    rig.control()
    dying = DyingStore(rig.store, writes, after)
    with pytest.raises(Killed):
        sites = {"basel": rig.site("basel", store=dying), "bern": rig.site("bern")}
        rig.drive(sites, rig.aggregator())
        rig.conclude(sites)
    rig.run()
    assert rig.digests() == undisturbed


def test_a_put_whose_answer_was_lost_is_a_success(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    class Forgetful(DyingStore):
        def __getattr__(self, name: str) -> object:
            method = getattr(self._store, name)
            if name != "create":
                return method

            def create(key: str, data: bytes) -> None:
                method(key, data)
                if "/updates/" in key:
                    raise Unavailable("the answer was lost")

            return create

    rig = Rig(tmp_path, TUNED, TWO)
    rig.control()
    patient = PatientStore(Forgetful(rig.store, 0, False), patience_seconds=30)
    sites = {"basel": rig.site("basel", store=patient), "bern": rig.site("bern")}
    rig.drive(sites, rig.aggregator())
    rig.conclude(sites)
    assert rig.digests() == undisturbed


def test_of_two_incarnations_of_a_site_the_older_one_stops(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), {"basel": ("liver",)})
    rig.control()
    older = rig.site("basel")
    newer = rig.site("basel")
    with pytest.raises(Superseded):
        older.take_turn()
    assert newer.take_turn()


def test_a_site_that_lost_its_state_goes_on_from_the_global_model(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(rounds=4), TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator(), until_round=2)
    for file in (tmp_path / "state" / "basel" / "checkpoints").iterdir():
        file.unlink()
    sites["basel"] = rig.site("basel")
    rig.drive(sites, rig.aggregator())
    assert rig.conclude(sites).round >= 1
    closing = read(rig.store, keys.closing(4), Closing)
    assert [participant.site for participant in closing.participants] == ["basel", "bern"]
