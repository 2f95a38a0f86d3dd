"""A finished run's records, made up: two sites and a third that joins late, with every kind of trouble."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from builders.small_specs import small_federation
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.records import (
    CaseScore,
    Closing,
    Control,
    Dice,
    Environment,
    Exclusion,
    Exported,
    ExternalScores,
    Final,
    Member,
    Outcome,
    Participant,
    Record,
    Rejection,
    Round,
    RoundScores,
    Surface,
    Update,
    VariantOutcome,
)
from segviz_exchange.contract.spec import FederationSpec, FineTuning, MemberRef, SiteRef
from segviz_exchange.stores.folder import FolderStore

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DIGEST = "ab" * 32
MACHINE = Environment("2.8", "cpu", "FP32", "ChannelsLast3d", 1)
MEMBERS = {"basel": Member(("liver",)), "bern": Member(("spleen",))}
LATER = {**MEMBERS, "bern": Member(("spleen",), "its owner withdrew consent"), "chur": Member(("liver",))}


def spec() -> FederationSpec:
    plain = small_federation(fine_tuning=FineTuning(1, 1e-3))
    external = MemberRef("btcv", SiteRef("default", "btcv"))
    return replace(plain, evaluation=replace(plain.evaluation, sites=(external,)))


def update(site: str, round_: int, attempt: int = 1, loss: float | None = None) -> Update:
    fields = {"blob": DIGEST, "size_bytes": 1500, "cases": 7, "seconds": 4.0, "environment": MACHINE}
    return Update(site, round_, attempt, 1, 1, loss=loss, upload_seconds=0.5, **fields)


def variant(organ: str, *dice: float, prefix: str = "") -> VariantOutcome:
    rows = tuple(
        CaseScore(f"{prefix}{index}c0ffee", organ, value, 10 - 10 * value, value / 2, value == 0)
        for index, value in enumerate(dice)
    )
    mean = sum(dice) / len(dice)
    surface = Surface(2.0, 1.0, 0.5, 0.1, sum(value == 0 for value in dice))
    return VariantOutcome({organ: Dice(mean, 0.0, len(dice))}, rows, DIGEST, {organ: surface})


def records() -> dict[str, tuple[int, Record]]:
    """By key: seconds after noon, and what was said."""
    both, three = ("basel", "bern"), ("basel", "chur")
    closed = {
        number: Closing(number, 1, tuple(Participant(site, 1, DIGEST, 1) for site in sites), out)
        for number, sites, out in (
            (0, both, ()),
            (1, ("basel",), (Exclusion("bern", "Rejected", "attempt 3: NotFinite: conv.weight has NaN"),)),
            (2, three, (Exclusion("bern", "Excluded", "its owner withdrew consent"),)),
        )
    }
    found: dict[str, tuple[int, Record]] = {
        keys.control(1): (0, Control(1, spec(), MEMBERS, suspend=False)),
        keys.control(2): (70, Control(2, spec(), LATER, suspend=False)),
        keys.FINAL: (140, Final(2, 2, {"liver": 0.8})),
    }
    for number, at in ((0, 10), (1, 60), (2, 130)):
        found[keys.closing(number)] = (at, closed[number])
        members = tuple(each.site for each in closed[number].participants)
        found[keys.round_record(number)] = (at, Round(number, 1, DIGEST, 2000, members))
        for site in members:
            loss = None if number == 0 else 1 / number
            found[keys.update(site, number, 1)] = (at - 2, update(site, number, loss=loss))
            dice = {MEMBERS.get(site, LATER[site]).organs[0]: Dice(0.3 * number, 0.1, 2)}
            found[keys.scores(site, number)] = (at + 1, RoundScores(site, number, dice))
    for attempt in (1, 2, 3):
        found[keys.update("bern", 1, attempt)] = (30 + attempt, update("bern", 1, attempt))
        reason = Rejection("bern", 1, attempt, "NotFinite", "conv.weight has NaN")
        found[keys.rejection("bern", 1, attempt)] = (40 + attempt, reason)
    for site, base, tuned in (("basel", (0.8, 0.6), (0.9, 0.65)), ("chur", (0.5,), (0.4,))):
        variants = {
            "base": variant("liver", *base, prefix=site[0]),
            "tuned": variant("liver", *tuned, prefix=site[0]),
        }
        found[keys.outcome(site)] = (150, Outcome(site, 2, variants))
    for name in ("base", "tuned"):
        exported = Exported(name, 2, DIGEST, 4000, ("liver",), ("liver",), spec())
        found[keys.exported(name)] = (160, exported)
    scores = {name: variant("liver", 0.0, 0.5, prefix="x") for name in ("base", "tuned")}
    found[keys.external_scores("btcv")] = (170, ExternalScores("btcv", scores))
    return found


def write(folder: Path, **changes: tuple[int, Record]) -> FolderStore:
    """In a folder store whose clock ran as the records say."""
    store = FolderStore(folder)
    for key, (seconds, record) in {**records(), **changes}.items():
        store.create(key, encode(record))
        at = (NOON + timedelta(seconds=seconds)).timestamp()
        os.utime(folder / key, (at, at))
    return store
