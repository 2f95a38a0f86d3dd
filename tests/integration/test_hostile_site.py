"""What a site can do to the others with the one right that it has: to write anything below its own name."""

import json
from pathlib import Path

import numpy as np
import pytest

from builders.rounds import CONTROL, after_round_0, deliver_round_but, finish, until_waiting
from builders.synthetic import (
    BASEL,
    BERN,
    control_of,
    deliver,
    model_of,
    shared_part,
    update_of,
    write_control,
)
from segviz_aggregator.loop import Aggregator
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import (
    MAX_ROWS_BYTES,
    MAX_SITE_BYTES,
    InvalidRecord,
    Ledger,
    encode,
    find,
    read,
)
from segviz_exchange.contract.progress import Finding, Phase, Preflight, Progress, Severity
from segviz_exchange.contract.records import (
    Dice,
    ExternalScores,
    Lease,
    Outcome,
    Record,
    Rejection,
    Round,
    RoundScores,
    Update,
    Variant,
    VariantOutcome,
)
from segviz_exchange.process.words import MOST_CHARACTERS
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Store
from segviz_operator.progress.observe import HELD_BYTES, HELD_BYTES_A_ROUND, Observer
from segviz_operator.progress.status import build_status

GOOD = shared_part(model_of(CONTROL, seed=101), BERN, CONTROL)
LONG = 15 << 20
SHORT = 2 * MOST_CHARACTERS
"""Of a record that quotes a text once."""


def long_field() -> bytes:
    return json.dumps({"x" * LONG: 1}).encode()


def long_tensor(store: Store) -> None:
    deliver(store, BERN, 1, {**GOOD, "y" * (7 << 20): np.zeros(1, np.float32)})


LONG_TEXTS = {
    "an unknown field": lambda store: store.create(keys.update(BERN, 1, 1), long_field()),
    "a value that is no choice": lambda store: store.create(
        keys.update(BERN, 1, 1),
        json.dumps({**json.loads(encode(update_of(BERN))), "site": "z" * LONG}).encode(),
    ),
    "a tensor": long_tensor,
    "a tensor's type": lambda store: deliver(
        store, BERN, 1, {}, {"groups": json.dumps({"x" * (6 << 20): ["a", "b"]})}
    ),
}


@pytest.mark.parametrize("write", LONG_TEXTS.values(), ids=LONG_TEXTS)
def test_a_name_of_megabytes_is_quoted_by_nobody(write, tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    deliver_round_but(store, BERN)
    write(store)
    until_waiting(aggregator)
    assert len(store.get(keys.rejection(BERN, 1, 1))) < SHORT
    # Who starts anew reads it, as the coordinator does, and the next attempt closes the round.
    deliver(store, BERN, 1, GOOD, attempt=2)
    finish(Aggregator(store, tmp_path / "elsewhere"), store)
    records = Observer(store).read()
    assert [each.attempt for each in records.sites[BERN].rejections] == [1]
    assert all(len(each) <= MOST_CHARACTERS for each in records.invalid)


def test_what_is_quoted_of_a_site_moves_no_cursor_and_turns_no_line(tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    name = "\x1b[2J\u202egnp.exe\u2028\x00"
    store.create(keys.update(BERN, 1, 1), json.dumps({name: 1}).encode())
    deliver(store, BASEL, 1, {name: np.zeros(1, np.float32)})
    until_waiting(aggregator)
    for site in (BASEL, BERN):
        message = read(store, keys.rejection(site, 1, 1), Rejection).message
        assert not set(message) & set("\x1b\u202e\u2028\x00"), site
    finding = Finding(name, Severity.WARNING, name)
    store.put(keys.progress(BERN), encode(Progress(1, Phase.WAITING, name)))
    store.put(keys.preflight(BERN, 1), encode(Preflight(1, (finding,))))
    status = next(each for each in build_status("a/b", Observer(store).read()).sites if each.alias == BERN)
    texts = [status.message, status.preflight[0].check, status.preflight[0].message]
    assert not set("".join(texts)) & set("\x1b\u202e\u2028\x00")


UNREADABLE = {"too long": b'{"site": "' + b"x" * LONG + b'"}', "not JSON": b"{", "of another version": b"{}"}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_a_rejection_that_cannot_be_read_is_one(content: bytes, tmp_path: Path) -> None:
    """Earlier versions wrote some that they could not read again: the federation was lost."""
    store, aggregator = after_round_0(tmp_path)
    deliver_round_but(store, BERN)
    deliver(store, BERN, 1, {})
    store.put(keys.rejection(BERN, 1, 1), content)
    until_waiting(aggregator)
    assert find(store, keys.round_record(1), Round) is None
    message = read(store, keys.AGGREGATOR_PROGRESS, Progress).message
    assert "bern's attempt 1 was rejected (Unreadable" in message
    rejection = Observer(store).read().sites[BERN].rejections[0]
    assert (rejection.site, rejection.round, rejection.attempt) == (BERN, 1, 1)
    deliver(store, BERN, 1, GOOD, attempt=2)
    finish(aggregator, store)


CAPS: dict[str, tuple[type[Record], int]] = {
    keys.lease(BERN, 1): (Lease, MAX_SITE_BYTES),
    keys.update(BERN, 1, 1): (Update, MAX_SITE_BYTES),
    keys.scores(BERN, 1): (RoundScores, MAX_SITE_BYTES),
    keys.progress(BERN): (Progress, MAX_SITE_BYTES),
    keys.preflight(BERN, 1): (Preflight, MAX_SITE_BYTES),
    keys.rejection(BERN, 1, 1): (Rejection, MAX_SITE_BYTES),
    keys.outcome(BERN): (Outcome, MAX_ROWS_BYTES),
    keys.external_scores(BERN): (ExternalScores, MAX_ROWS_BYTES),
}


@pytest.mark.parametrize("key", CAPS)
def test_every_reader_takes_records_of_the_same_length(key: str, tmp_path: Path) -> None:
    store, (kind, most) = FolderStore(tmp_path), CAPS[key]
    whole = {
        Lease: Lease(1),
        Update: update_of(BERN),
        RoundScores: RoundScores(BERN, 1, {}),
        Progress: Progress(1, Phase.WAITING),
        Preflight: Preflight(1, ()),
        Rejection: Rejection(BERN, 1, 1, "a", "b"),
        Outcome: Outcome(BERN, 1, {}),
        ExternalScores: ExternalScores(BERN, {Variant.BASE: VariantOutcome({}, (), None)}),
    }[kind]
    content = encode(whole)
    store.put(key, content + b" " * (most - len(content)))
    assert [read(store, key, kind), looked(store).read(key, kind)] == [whole, whole]
    store.put(key, content + b" " * (most + 1 - len(content)))
    with pytest.raises(InvalidRecord, match="at most"):
        read(store, key, kind)
    with pytest.raises(InvalidRecord, match="at most"):
        looked(store).read(key, kind)


def looked(store: Store) -> Ledger:
    ledger = Ledger(store, ("",))
    ledger.look()
    return ledger


def test_what_the_coordinator_keeps_of_a_site_is_bounded(tmp_path: Path) -> None:
    """By the rounds that were asked for; what is not read is that site's own."""
    store, rounds = FolderStore(tmp_path), 60
    write_control(store, control_of(rounds=rounds))
    organs = {f"organ{number:058d}": Dice(1 / 3, 1 / 7, 10**15) for number in range(256)}
    for round_ in range(rounds + 1):
        store.put(keys.scores(BASEL, round_), encode(RoundScores(BASEL, round_, {})))
        store.put(keys.scores(BERN, round_), encode(RoundScores(BERN, round_, organs)))
    observer = Observer(store)
    records = observer.read()
    assert observer.held_bytes(BERN) <= HELD_BYTES + rounds * HELD_BYTES_A_ROUND
    assert len(records.sites[BASEL].scores) == rounds + 1
    assert any("bern has written more than" in why for why in records.invalid)
