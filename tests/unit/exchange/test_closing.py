"""The specification of `close_round`: who is in a round, and when it closes."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.synthetic import BASEL, BERN, CHUR, ORGANS, control_of, update_of
from segviz_exchange.contract.choices import Weights
from segviz_exchange.contract.closing import (
    EXCLUDED,
    MAX_ATTEMPTS,
    NO_UPDATE,
    QUORUM_LOST,
    REJECTED,
    Fail,
    RoundRecords,
    SiteRecords,
    Wait,
    close_round,
)
from segviz_exchange.contract.records import Closing, Control, Exclusion, Participant, Rejection

OPENED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALL = frozenset(ORGANS)
DAVOS = "davos"
FOUR = {**ORGANS, DAVOS: ("kidneys",)}


def has(site: str, attempt: int = 1, cases: int = 10) -> SiteRecords:
    return SiteRecords(update_of(site, 1, attempt, cases=cases), rejected(site, attempt - 1).rejections)


def rejected(site: str, times: int) -> SiteRecords:
    return SiteRecords(
        None, tuple(Rejection(site, 1, n + 1, "NotFinite", "tensor 'w' holds NaN") for n in range(times))
    )


def seen(
    *sites: SiteRecords | tuple[str, SiteRecords],
    round_: int = 1,
    joined: frozenset[str] = ALL,
    suspended: timedelta = timedelta(0),
) -> RoundRecords:
    known = {}
    for site in sites:
        if isinstance(site, tuple):
            known[site[0]] = site[1]
        elif site.accepted:
            known[site.accepted.site] = site
        else:
            known[site.rejections[0].site] = site
    return RoundRecords(round_, joined, known, OPENED, suspended)


def closed(
    *sites: str | Participant, round_: int = 1, control: int = 1, without: tuple[Exclusion, ...] = ()
) -> Closing:
    participants = tuple(part(site) if isinstance(site, str) else site for site in sites)
    return Closing(round_, control, participants, without)


def part(site: str, attempt: int = 1, weight: int = 1) -> Participant:
    return Participant(site, attempt, update_of(site, 1, attempt).blob, weight)


def absent(site: str) -> Exclusion:
    return Exclusion(site, NO_UPDATE, "no update before the deadline")


def refused(site: str) -> Exclusion:
    return Exclusion(site, REJECTED, f"attempt {MAX_ATTEMPTS}: NotFinite: tensor 'w' holds NaN")


@dataclass(frozen=True)
class Case:
    control: Control
    records: RoundRecords
    expected: Wait | Closing | type[Fail]
    after: timedelta = timedelta(minutes=5)
    """Time since the round was opened, by the store's clock."""


EVERYONE = control_of()
TIMED = control_of(min_sites=2, round_timeout_seconds=3600)

CASES = {
    # All sites are needed.
    "nothing is there yet": Case(EVERYONE, seen(), Wait((BASEL, BERN, CHUR), None)),
    "one is missing, and there is no deadline": Case(
        EVERYONE, seen(has(BASEL), has(CHUR)), Wait((BERN,), None), after=1000 * HOUR
    ),
    "all in closes at once": Case(
        EVERYONE, seen(has(BASEL), has(BERN), has(CHUR)), closed(BASEL, BERN, CHUR)
    ),
    "the order of arrival does not show": Case(
        EVERYONE, seen(has(CHUR), has(BASEL), has(BERN)), closed(BASEL, BERN, CHUR)
    ),
    # minSites and the deadline.
    "a quorum waits for the others until the deadline": Case(
        TIMED, seen(has(BASEL), has(BERN)), Wait((CHUR,), OPENED + HOUR), after=HOUR - timedelta(seconds=1)
    ),
    "at the deadline a quorum closes": Case(
        TIMED, seen(has(BASEL), has(BERN)), closed(BASEL, BERN, without=(absent(CHUR),)), after=HOUR
    ),
    "all in does not wait for the deadline": Case(
        TIMED, seen(has(BASEL), has(BERN), has(CHUR)), closed(BASEL, BERN, CHUR)
    ),
    "an update after the deadline counts until the round is closed": Case(
        TIMED, seen(has(BASEL), has(BERN), has(CHUR)), closed(BASEL, BERN, CHUR), after=2 * HOUR
    ),
    "past the deadline a missing quorum is waited for": Case(
        TIMED, seen(has(BASEL)), Wait((BERN, CHUR), OPENED + HOUR), after=99 * HOUR
    ),
    "past the deadline it closes with the quorum's last": Case(
        TIMED, seen(has(BASEL), has(CHUR)), closed(BASEL, CHUR, without=(absent(BERN),)), after=99 * HOUR
    ),
    "past the deadline a quorum that can no longer come fails": Case(
        TIMED, seen(has(BASEL), rejected(BERN, 3), rejected(CHUR, 3)), Fail, after=99 * HOUR
    ),
    "a night of nobody at work fails nothing": Case(
        control_of(round_timeout_seconds=3600),
        seen(),
        Wait((BASEL, BERN, CHUR), OPENED + HOUR),
        after=12 * HOUR,
    ),
    "before the deadline a missing quorum is no failure": Case(
        TIMED, seen(has(BASEL)), Wait((BERN, CHUR), OPENED + HOUR)
    ),
    "round 0 has a deadline as well": Case(
        TIMED,
        seen(has(BASEL), has(BERN), round_=0),
        closed(BASEL, BERN, round_=0, without=(absent(CHUR),)),
        after=HOUR,
    ),
    # Rejections.
    "a rejected update is waited for again": Case(
        EVERYONE, seen(has(BASEL), rejected(BERN, 1), has(CHUR)), Wait((BERN,), None)
    ),
    "the next attempt counts": Case(
        EVERYONE,
        seen(has(BASEL), has(BERN, attempt=2), has(CHUR)),
        closed(BASEL, part(BERN, attempt=2), CHUR),
    ),
    "three rejections lose a site that is needed": Case(
        EVERYONE, seen(has(BASEL), rejected(BERN, 3), has(CHUR)), Fail
    ),
    "three rejections of a site that is not needed are not waited for": Case(
        TIMED,
        seen(has(BASEL), rejected(BERN, 3), has(CHUR)),
        closed(BASEL, CHUR, without=(refused(BERN),)),
    ),
    "a quorum that can no longer come fails before the deadline": Case(
        TIMED, seen(rejected(BASEL, 3), rejected(BERN, 3)), Fail
    ),
    # Joining and leaving.
    "a joiner is not waited for": Case(
        control_of(FOUR, number=2),
        seen(has(BASEL), has(BERN), has(CHUR)),
        closed(BASEL, BERN, CHUR, control=2),
    ),
    "what a joiner delivers counts from the next round": Case(
        control_of(FOUR, number=2),
        seen(has(BASEL), has(BERN), has(CHUR), has(DAVOS)),
        closed(BASEL, BERN, CHUR, control=2),
    ),
    "a joiner does not lower the quorum of the others": Case(
        control_of(FOUR, number=2, min_sites=3, round_timeout_seconds=3600),
        seen(has(BASEL), has(BERN)),
        Wait((CHUR,), OPENED + HOUR),
        after=HOUR,
    ),
    "a quorum that needs the joiner is content without": Case(
        control_of(FOUR, number=2, min_sites=4, round_timeout_seconds=3600),
        seen(has(BASEL), has(BERN), has(CHUR)),
        closed(BASEL, BERN, CHUR, control=2),
    ),
    "a joiner does not raise the quorum of the others": Case(
        control_of(FOUR, number=2, min_sites=2, round_timeout_seconds=3600),
        seen(has(BASEL), has(BERN)),
        closed(BASEL, BERN, control=2, without=(absent(CHUR),)),
        after=HOUR,
    ),
    "a joiner stands in for itself alone": Case(
        control_of({**FOUR, "zug": ("colon",)}, number=2, excluded={"zug": "Suspended"}),
        seen(has(BASEL), has(BERN), has(CHUR)),
        Fail,
    ),
    "a round whose sites were all replaced fails, and does not close with nobody": Case(
        control_of({DAVOS: ("kidneys",)}, number=2), seen(), Fail
    ),
    "one that has joined is waited for": Case(
        control_of(FOUR),
        seen(has(BASEL), has(BERN), has(CHUR), joined=ALL | {DAVOS}),
        Wait((DAVOS,), None),
    ),
    "in round 0 everybody is waited for": Case(
        EVERYONE, seen(has(BASEL), has(BERN), round_=0), Wait((CHUR,), None)
    ),
    "one that left is not waited for, whatever it delivered": Case(
        control_of({BASEL: ("liver",), BERN: ("spleen",)}, number=2),
        seen(has(BASEL), has(BERN), has(CHUR)),
        closed(BASEL, BERN, control=2),
    ),
    "a site that never tried again after a rejection is absent, not rejected": Case(
        TIMED,
        seen(has(BASEL), has(BERN), rejected(CHUR, MAX_ATTEMPTS - 1)),
        closed(BASEL, BERN, without=(absent(CHUR),)),
        after=HOUR,
    ),
    # People edit the federation in the middle of a round.
    "exclusions are sorted by alias, whatever their reasons": Case(
        control_of(FOUR, number=2, min_sites=2, round_timeout_seconds=3600, excluded={BASEL: "Suspended"}),
        seen(has(BERN), has(CHUR), joined=ALL | {DAVOS}),
        closed(BERN, CHUR, control=2, without=(Exclusion(BASEL, EXCLUDED, "Suspended"), absent(DAVOS))),
        after=HOUR,
    ),
    "an excluded site that is needed fails the round": Case(
        control_of(number=2, excluded={CHUR: "Suspended"}), seen(has(BASEL), has(BERN)), Fail
    ),
    "an excluded site that is not needed is named": Case(
        control_of(number=2, min_sites=2, excluded={CHUR: "Suspended"}),
        seen(has(BASEL), has(BERN)),
        closed(BASEL, BERN, control=2, without=(Exclusion(CHUR, EXCLUDED, "Suspended"),)),
    ),
    "a lower minSites closes a round that waits": Case(
        control_of(number=2, min_sites=1, round_timeout_seconds=3600),
        seen(has(BASEL)),
        closed(BASEL, control=2, without=(absent(BERN), absent(CHUR))),
        after=HOUR,
    ),
    "a new timeout moves the deadline": Case(
        control_of(number=2, min_sites=2, round_timeout_seconds=10800),
        seen(has(BASEL), has(BERN)),
        Wait((CHUR,), OPENED + 3 * HOUR),
        after=2 * HOUR,
    ),
    "a rejected site is no longer waited for while suspended": Case(
        control_of(suspend=True), seen(has(BASEL), rejected(BERN, MAX_ATTEMPTS)), Wait((CHUR,), None)
    ),
    # Suspension.
    "while suspended nothing closes": Case(
        control_of(suspend=True), seen(has(BASEL), has(BERN), has(CHUR)), Wait((), None)
    ),
    "while suspended nothing fails": Case(
        control_of(suspend=True, round_timeout_seconds=3600),
        seen(has(BASEL)),
        Wait((BERN, CHUR), OPENED + HOUR),
        after=2 * HOUR,
    ),
    "time spent suspended extends the deadline": Case(
        TIMED,
        seen(has(BASEL), has(BERN), suspended=2 * HOUR),
        Wait((CHUR,), OPENED + 3 * HOUR),
        after=2 * HOUR,
    ),
    # Weights.
    "weights are uniform by default": Case(
        EVERYONE,
        seen(has(BASEL, cases=5), has(BERN, cases=7), has(CHUR, cases=9)),
        closed(BASEL, BERN, CHUR),
    ),
    "weights can be the cases": Case(
        control_of(weights=Weights.CASES),
        seen(has(BASEL, cases=5), has(BERN, cases=7), has(CHUR, cases=9)),
        closed(part(BASEL, weight=5), part(BERN, weight=7), part(CHUR, weight=9)),
    ),
    "nobody weighs more than five times the median of the others": Case(
        control_of(weights=Weights.CASES),
        seen(has(BASEL, cases=1000), has(BERN, cases=4), has(CHUR, cases=7)),
        closed(part(BASEL, weight=27), part(BERN, weight=4), part(CHUR, weight=7)),
    ),
    "who is alone weighs what it has": Case(
        control_of(weights=Weights.CASES, min_sites=1, round_timeout_seconds=3600),
        seen(has(BASEL, cases=5)),
        closed(part(BASEL, weight=5), without=(absent(BERN), absent(CHUR))),
        after=HOUR,
    ),
    "a site never weighs more than in its first round": Case(
        control_of(weights=Weights.CASES),
        replace(
            seen(has(BASEL, cases=9), has(BERN, cases=7), has(CHUR, cases=6)),
            admitted={BASEL: 5, BERN: 8},
        ),
        closed(part(BASEL, weight=5), part(BERN, weight=7), part(CHUR, weight=6)),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_close_round(case: Case) -> None:
    decision = close_round(case.control, case.records, now=OPENED + case.after)
    if isinstance(case.expected, type):
        assert isinstance(decision, Fail)
        assert decision.reason == QUORUM_LOST
    else:
        # The digests of the table's updates are those of round 1.
        assert decision == case.expected


def test_a_failure_names_who_can_no_longer_take_part_and_what_to_do() -> None:
    control = control_of(FOUR, min_sites=3, round_timeout_seconds=3600, excluded={DAVOS: "ImagePullBackOff"})
    decision = close_round(control, seen(has(BASEL), rejected(BERN, 3)), now=OPENED + HOUR)
    assert decision == Fail(
        QUORUM_LOST,
        "round 1 can have 2 of the 3 sites it needs "
        "(bern: Rejected, attempt 3: NotFinite: tensor 'w' holds NaN; davos: ImagePullBackOff). "
        "Fix what keeps the others out, or lower spec.participation.minSites.",
    )


def test_a_failure_names_who_is_left_out_by_alias() -> None:
    organs = {CHUR: ("pancreas",), BASEL: ("liver",), BERN: ("spleen",)}
    control = control_of(organs, excluded={CHUR: "Suspended", BASEL: "NotConsented"})
    decision = close_round(control, seen(), now=OPENED)
    assert isinstance(decision, Fail)
    assert "(basel: NotConsented; chur: Suspended)" in decision.message


def test_a_failure_says_so_where_the_sites_have_left() -> None:
    decision = close_round(control_of({}), seen(), now=OPENED)
    assert isinstance(decision, Fail)
    assert "(the others have left)" in decision.message


def test_a_failure_says_who_joins_too_late_for_the_round() -> None:
    decision = close_round(control_of({DAVOS: ("kidneys",)}, number=2), seen(), now=OPENED)
    assert decision == Fail(
        QUORUM_LOST,
        "round 1 can have 0 of the 1 sites it needs (davos: joins with the next round). "
        "Fix what keeps the others out, or lower spec.participation.minSites.",
    )


def test_a_quorum_is_every_member_unless_the_manifest_says_less() -> None:
    assert control_of(excluded={CHUR: "Suspended"}).quorum == 3
    assert control_of(min_sites=2).quorum == 2


SITES = st.sampled_from(["nothing", "delivered", "rejected once", "refused"])
BUILD = {
    "nothing": lambda site: SiteRecords(),
    "delivered": has,
    "rejected once": lambda site: rejected(site, 1),
    "refused": lambda site: rejected(site, 3),
}


@given(
    states=st.fixed_dictionaries(dict.fromkeys(ORGANS, SITES)),
    min_sites=st.none() | st.integers(1, 3),
    minutes=st.integers(0, 120),
)
def test_a_round_closes_with_a_quorum_or_not_at_all(
    states: dict[str, str], min_sites: int | None, minutes: int
) -> None:
    control = control_of(min_sites=min_sites, round_timeout_seconds=3600)
    records = seen(*((alias, BUILD[state](alias)) for alias, state in states.items()))
    decision = close_round(control, records, now=OPENED + timedelta(minutes=minutes))
    delivered = sorted(alias for alias, state in states.items() if state == "delivered")
    match decision:
        case Closing():
            assert [participant.site for participant in decision.participants] == delivered
            assert len(delivered) >= (min_sites or 3)
            assert {exclusion.site for exclusion in decision.exclusions} == ALL - set(delivered)
        case Wait():
            assert minutes < 60 or len(delivered) < (min_sites or 3)
            assert set(decision.missing).isdisjoint(delivered)
        case Fail():
            refused = [alias for alias, state in states.items() if state == "refused"]
            assert len(ALL) - len(refused) < (min_sites or 3)


@given(states=st.fixed_dictionaries(dict.fromkeys(ORGANS, SITES)), minutes=st.integers(0, 120))
def test_time_alone_fails_nothing(states: dict[str, str], minutes: int) -> None:
    records = seen(*((alias, BUILD[state](alias)) for alias, state in states.items()))
    then, now = OPENED, OPENED + timedelta(minutes=minutes)
    assert isinstance(close_round(TIMED, records, now), Fail) == isinstance(
        close_round(TIMED, records, then), Fail
    )
