"""Who tells a fingerprint, and how a site waits for the plan."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.cubes import write_cases
from builders.rig import Patience, site_spec, small_federation
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import FingerprintPolicy, Planning
from segviz_exchange.contract.fingerprint import Fingerprint
from segviz_exchange.contract.ledger import commit, read
from segviz_exchange.contract.progress import Progress
from segviz_exchange.contract.records import Control, Member
from segviz_exchange.contract.site_spec import Privacy
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.pace import Pace
from segviz_exchange.process.waiting import Waiting
from segviz_exchange.stores.folder import FolderStore
from segviz_trainer.participation.telling import await_plan, tell
from segviz_trainer.process.heartbeat import Heartbeat, take_lease
from segviz_trainer.process.site import Site

MEMBERS = {"basel": Member(("liver",))}


def control(number: int, plan: Planning | None) -> Control:
    spec = small_federation()
    asked = replace(spec, preprocessing=replace(spec.preprocessing, plan=plan))
    return Control(number, asked, MEMBERS, suspend=False, reasons=() if plan else ("planned",))


AUTO, PLANNED = control(1, Planning.AUTO), control(2, None)


class Basel:
    def __init__(self, folder: Path, **changes: object) -> None:
        self.store = FolderStore(folder / "bucket")
        write_cases(folder / "data", ("liver",), cases=10, seed=0)
        told = {"fingerprint": FingerprintPolicy.SUMMARY, **changes}
        self.site = Site("basel", site_spec(("liver",), **told), folder / "data", folder / "state")

    def tell(self) -> Fingerprint:
        return tell(self.store, self.site, AUTO, lambda done, cases, case: None)

    def told(self) -> list[str]:
        return [entry.key for entry in self.store.list(keys.SITES) if "fingerprint" in entry.key]


def test_it_is_told_once_and_of_training_cases_alone(tmp_path: Path) -> None:
    basel = Basel(tmp_path)
    told = basel.tell()
    assert told == read(basel.store, keys.fingerprint("basel"), Fingerprint)
    assert 5 <= told.cases < 10, "validation and test are not measured"
    basel.site = Site("basel", basel.site.spec, tmp_path / "elsewhere", tmp_path / "state")
    assert basel.tell() == told, "the plan may rest on what an earlier self said"


@pytest.mark.parametrize("policy", [None, FingerprintPolicy.NONE])
def test_a_site_that_says_nothing_tells_nothing_whatever_the_control_asks(
    tmp_path: Path, policy: FingerprintPolicy | None
) -> None:
    basel = Basel(tmp_path, fingerprint=policy)
    with pytest.raises(
        Refusal, match=r"basel: plan: Auto asks for a fingerprint .* spec\.fingerprint lets out"
    ):
        basel.tell()
    assert basel.told() == []


def test_noise_does_not_cover_a_fingerprint(tmp_path: Path) -> None:
    basel = Basel(tmp_path, privacy=Privacy(1.0, 1e-5, 0.5))
    with pytest.raises(Refusal, match=r"spec\.privacy is on: the noise on updates does not cover it"):
        basel.tell()
    assert basel.told() == []


class Coordinator(Waiting):
    """Writes the planned control while the site waits."""

    def __init__(self, store: FolderStore) -> None:
        self.store, self.pauses = store, 0

    def pause(self) -> None:
        self.pauses += 1
        said = read(self.store, keys.progress("basel"), Progress)
        assert said.message == "for the plan, which needs every site's fingerprint"
        if self.pauses == 2:
            commit(self.store, keys.control(2), PLANNED)

    def moved(self) -> None:
        pass


def test_a_site_waits_for_a_control_that_has_all_numbers(tmp_path: Path) -> None:
    basel = Basel(tmp_path)
    commit(basel.store, keys.control(1), AUTO)
    heartbeat = Heartbeat(basel.store, "basel", take_lease(basel.store, "basel"), interval_seconds=0)
    waiting = Coordinator(basel.store)
    assert await_plan(basel.store, basel.site, AUTO, heartbeat, waiting) == PLANNED
    assert (waiting.pauses, len(basel.told())) == (2, 1)


def test_where_nothing_is_planned_nothing_is_told(tmp_path: Path) -> None:
    basel = Basel(tmp_path, fingerprint=None)
    heartbeat = Heartbeat(basel.store, "basel", 1)
    stop = Patience()
    waiting = Waiting(Pace(0.0), stop, None)  # type: ignore[arg-type]
    assert await_plan(basel.store, basel.site, PLANNED, heartbeat, waiting) == PLANNED
    assert basel.told() == []
