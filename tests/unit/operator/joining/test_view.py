"""What a remote site's person sees, and what a join file must be."""

import io
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from builders.synthetic import BASEL, CHUR, DIGEST, control_of
from segviz_exchange.contract import keys
from segviz_exchange.contract.join import Invitation, encode_invitation, read_invitation
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Round
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Unavailable
from segviz_operator.joining.view import LineView, StatusView, line_of

HELD = Credentials("key", "secret", "token", datetime(2026, 11, 24, 12, 30, tzinfo=UTC))
INVITATION = Invitation("s3://store.example/segviz", "radiology", "abdomen", "0a1b", BASEL, HELD, ca="PEM")


def seat(alias: str = BASEL) -> SimpleNamespace:
    return SimpleNamespace(alias=alias)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path)
    store.put(keys.control(1), encode(control_of(rounds=5, excluded={CHUR: "refused: Disk: full"})))
    store.put(keys.round_record(1), encode(Round(1, 1, DIGEST, 1, (BASEL,))))
    beat = Progress(1, Phase.TRAINING, "", 2, 0, 3, 4, 0.25)
    store.put(keys.progress(BASEL), encode(beat))
    return store


def test_a_line_says_how_the_site_stands(store: FolderStore) -> None:
    beat = Progress(1, Phase.TRAINING, "", 2, 0, 3, 4, 0.25)
    assert line_of(store, seat(), beat, 1) == (
        "basel: Training, round 2/5, epoch 1, 75 %, loss 0.250, newest global model: round 1"
    )


def test_a_site_that_is_left_out_is_told_why(store: FolderStore) -> None:
    assert "left out: refused: Disk: full" in line_of(store, seat(CHUR), None, 1)
    assert "not a member yet" in line_of(store, seat("zug"), None, 1)


def test_a_log_gets_a_line_where_something_changes(store: FolderStore) -> None:
    written = io.StringIO()
    view = LineView(Console(file=written))
    for _ in range(3):
        view.show(store, seat(), HELD)
    view.away(Unavailable("no route"))
    view.away(Unavailable("no route"))
    lines = written.getvalue().splitlines()
    assert len(lines) == 2
    assert "basel: Training, round 2/5" in lines[0]
    assert "the store does not answer: no route" in lines[1]
    assert "secret" not in written.getvalue()


def test_a_terminal_gets_one_line_that_is_drawn_over(store: FolderStore) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=160)
    with console.status("starting") as status:
        view = StatusView(console, status)
        view.show(store, seat(), HELD)
        assert "75 %" in str(status.status)
        status._live.refresh()
        view.say("took credentials no. 2")
        view.away(Unavailable("no route"))
    assert "took credentials no. 2" in written.getvalue()
    assert "[credentials until 12:30 UTC]" in written.getvalue()


def test_a_join_file_comes_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "basel.json"
    path.write_bytes(encode_invitation(INVITATION))
    read = read_invitation(path)
    assert read == INVITATION
    assert (read.federation, read.prefix) == ("radiology/abdomen", "radiology/abdomen-0a1b/")
    assert "secret" not in repr(read)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"s3://store.example/segviz"', '"/etc"'),
        ('"basel"', '"../bern"'),
        ('"0a1b"', '"../../x"'),
        ('"radiology"', '"Radiology"'),
        ('"alias"', '"site"'),
        ('"accessKey"', '"key"'),
    ],
)
def test_what_is_no_join_file_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "basel.json"
    text = encode_invitation(INVITATION).decode()
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(Refusal, match=r"basel\.json: not a join file"):
        read_invitation(path)
