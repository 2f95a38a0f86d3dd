"""What a failure costs a remote site."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from builders.situations import KILLED, ended
from builders.small_specs import site_spec
from builders.synthetic import BASEL, control_of
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.stopping import Stop
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Entry, Unavailable
from segviz_operator.joining.attend import Joining
from segviz_operator.joining.view import LineView
from segviz_operator.plan.decide import MAX_FAILURES


class Away(FolderStore):
    def list(self, prefix: str) -> list[Entry]:
        raise Unavailable(f"{prefix}: no route")


class OwnFolders(FolderStore):
    """As the site's credentials have it: nobody else's records can be listed."""

    def list(self, prefix: str) -> list[Entry]:
        assert prefix in (keys.CONTROLS, f"{keys.SITES}{BASEL}/"), prefix
        return super().list(prefix)


def joining(folder: Path, store: FolderStore) -> Joining:
    seat = SimpleNamespace(
        alias=BASEL, site=SimpleNamespace(spec=site_spec(("liver",))), state=folder, open_store=lambda: store
    )
    return Joining(seat, LineView(Console(file=io.StringIO())), Stop())


def at_epoch(folder: Path, epoch: int) -> FolderStore:
    """basel trains in the second round."""
    store = OwnFolders(folder)
    store.put(keys.control(1), encode(control_of(rounds=5)))
    store.put(keys.progress(BASEL), encode(Progress(1, Phase.TRAINING, "", 2, epoch, 3, 4, 0.25)))
    return store


def test_a_trainer_that_fails_again_and_again_waits_longer_and_longer(tmp_path: Path) -> None:
    own = joining(tmp_path, Away(tmp_path / "bucket"))
    waits = [own.after(ended("Trainer", BASEL, code=KILLED, failures=number))[1] for number in range(3)]
    assert waits == [5.0, 10.0, 20.0]


def test_progress_since_the_attempt_began_makes_its_failure_the_first(tmp_path: Path) -> None:
    own = joining(tmp_path, at_epoch(tmp_path / "bucket", 0))
    following, wait = own.after(ended("Trainer", BASEL, code=KILLED, failures=4))
    assert (following.attempt, following.failures, wait) == (2, 1, 5.0)


def test_progress_before_it_does_not_count_again(tmp_path: Path) -> None:
    own = joining(tmp_path, at_epoch(tmp_path / "bucket", 0))
    following, _ = own.after(ended("Trainer", BASEL, code=KILLED))
    again = ended("Trainer", BASEL, code=KILLED, failures=1, milestone=following.milestone)
    assert own.after(again)[0].failures == 2


def test_an_end_that_is_no_fault_of_the_trainer_costs_nothing(tmp_path: Path) -> None:
    own = joining(tmp_path, Away(tmp_path / "bucket"))
    following, wait = own.after(ended("Trainer", BASEL, code=Exit.STOPPED, failures=3))
    assert (following.failures, wait) == (3, 0.0)


@pytest.mark.parametrize("failures", [MAX_FAILURES, 10 * MAX_FAILURES])
def test_at_the_site_nobody_gives_up(tmp_path: Path, failures: int) -> None:
    own = joining(tmp_path, Away(tmp_path / "bucket"))
    assert own.after(ended("Trainer", BASEL, code=1, failures=failures))[1] == 300.0
