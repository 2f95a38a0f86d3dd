"""Sites outside, as they are planned for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace as changed

from builders.small_specs import site_spec
from builders.snapshots import NOON, snapshot
from builders.synthetic import BASEL, BERN, control_of
from segviz_exchange.contract import keys
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.process.exits import Exit
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.access.handover import credentials_to_tell, newest_remote, renew
from segviz_operator.plan.decide import CreateWorkload, DeleteWorkload, Desired, decide
from segviz_operator.plan.workload import WorkloadState
from segviz_operator.progress.remote import remote_workloads

TWO = {BASEL: ("liver",), BERN: ("spleen",)}
CONTROL = control_of(TWO, min_sites=1, round_timeout_seconds=3600)
DESIRED = Desired(CONTROL.spec, TWO)
SITES = {
    BASEL: site_spec(("liver",)),
    BERN: changed(site_spec(("spleen",)), remote=True),
}


def observed(**progress: Progress):
    records = snapshot(CONTROL, progress=progress)
    return records.observed(remote_workloads(SITES, records))


def test_nobody_here_starts_a_remote_site() -> None:
    created = [each for each in decide(DESIRED, observed(), NOON) if isinstance(each, CreateWorkload)]
    assert {each.site for each in created} == {None, BASEL}


def test_nobody_here_stops_one() -> None:
    suspended = replace(DESIRED, spec=changed(DESIRED.spec, suspend=True))
    actions = decide(suspended, observed(bern=Progress(1, Phase.TRAINING)), NOON)
    assert not [each for each in actions if isinstance(each, DeleteWorkload)]
    gone = replace(DESIRED, organs={BASEL: ("liver",)})
    assert not [each for each in decide(gone, observed(), NOON) if isinstance(each, DeleteWorkload)]


def test_one_that_refuses_is_left_out_until_it_joins_again() -> None:
    refused = observed(bern=Progress(1, Phase.FAILED, "Disk: full"))
    (workload,) = refused.workloads
    assert (workload.state, workload.exit_code) == (WorkloadState.FAILED, Exit.REFUSED)
    control = next(each.control for each in decide(DESIRED, refused, NOON) if hasattr(each, "control"))
    assert control.members[BERN].excluded == "refused: Disk: full"
    again = replace(observed(bern=Progress(2, Phase.PREPARING)), control=control)
    control = next(each.control for each in decide(DESIRED, again, NOON) if hasattr(each, "control"))
    assert control.members[BERN].excluded is None


def test_an_applied_plan_leaves_nothing_to_plan_for_a_remote_site() -> None:
    refused = observed(bern=Progress(1, Phase.FAILED, "Disk: full"))
    control = next(each.control for each in decide(DESIRED, refused, NOON) if hasattr(each, "control"))
    assert not [
        each for each in decide(DESIRED, replace(refused, control=control), NOON) if hasattr(each, "control")
    ]


def test_credentials_are_left_at_half_life_and_old_ones_taken_away(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    minted: list[Credentials] = []

    def mint_at(now: datetime):
        def mint() -> Credentials:
            minted.append(Credentials(f"key{len(minted) + 1}", "s", "t", now + timedelta(hours=1)))
            return minted[-1]

        return mint

    start = datetime(2026, 11, 24, 12, tzinfo=UTC)
    for minutes, number in ((0, 1), (10, 1), (29, 1), (30, 2), (59, 2), (60, 3), (200, 4)):
        now = start + timedelta(minutes=minutes)
        renew(store, BERN, mint_at(now), 3600, now)
        assert newest_remote(store, BERN) == (number, minted[-1])
        assert len(minted) == number
    left = [entry.key for entry in store.list(keys.credentials(BERN))]
    assert left == [keys.credential(BERN, 3), keys.credential(BERN, 4)]


def test_credentials_without_an_end_are_left_when_they_change(tmp_path: Path) -> None:
    store, now = FolderStore(tmp_path), datetime(2026, 11, 24, 12, tzinfo=UTC)
    old, new = Credentials("old", "s"), Credentials("new", "s")
    left = [renew(store, BERN, lambda each=each: each, 3600, now) for each in (old, old, new, new)]
    assert left == [old, None, new, None]
    assert newest_remote(store, BERN) == (2, new)


def test_a_join_file_is_written_when_there_is_none_and_when_credentials_are_renewed(tmp_path: Path) -> None:
    store, now = FolderStore(tmp_path), datetime(2026, 11, 24, 12, tzinfo=UTC)
    first, second = (
        Credentials(name, "s", "t", now + timedelta(hours=hours)) for name, hours in (("1", 1), ("2", 2))
    )
    later = now + timedelta(minutes=31)
    told = [
        credentials_to_tell(store, BERN, lambda: first, 3600, now, told=False),
        credentials_to_tell(store, BERN, lambda: second, 3600, now, told=True),
        # Killed before the file was there: those in the store are told again.
        credentials_to_tell(store, BERN, lambda: second, 3600, now, told=False),
        credentials_to_tell(store, BERN, lambda: second, 3600, later, told=True),
    ]
    assert told == [first, None, first, second]
