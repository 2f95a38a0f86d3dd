"""How far a federation has come, and how long the rest will take."""

from datetime import timedelta
from statistics import fmean

from segviz_operator.progress.facts import FederationRecords

_ROUNDS_FOR_ETA = 5
"""The mean over so many rounds: short enough to follow a machine that became slower."""
_EARLIEST_SHARE = 0.05
"""Of a piece of work, before which its speed says nothing yet."""


def open_round(records: FederationRecords) -> int:
    return 0 if records.newest_round is None else records.newest_round + 1


def owes_nothing(records: FederationRecords, alias: str) -> bool:
    """Whether a site has written what is needed of it now.

    That is its update for the open round; after the last round its score of it, by which the final model is
    chosen; and once that is chosen, what its own cases say of it.
    """
    facts = records.sites.get(alias)
    if facts is None:
        return False
    if records.final is not None:
        return (facts.outcome or facts.external) is not None
    round_ = open_round(records)
    if records.control is not None and round_ > records.control.spec.rounds:
        return records.newest_round in facts.scores
    return facts.newest_update == round_


def share_done(records: FederationRecords, rounds: int, within: float) -> float:
    """Of all rounds; `within` is the share of the open one."""
    if records.final is not None:
        return 1.0
    if not rounds or records.newest_round is None:
        return 0.0
    return min(1.0, (records.newest_round + within) / rounds)


def rest_seconds(records: FederationRecords, share: float | None) -> float | None:
    """Of a site's work for the open round, at its own speed since the round opened."""
    elapsed = _open_for(records)
    if share is None or elapsed is None or share < _EARLIEST_SHARE:
        return None
    return elapsed.total_seconds() * (1 - share) / share


def eta_seconds(records: FederationRecords, rounds: int, rests: list[float]) -> float | None:
    """Until the last round is committed; testing and exporting come on top.

    Args:
        rests: `rest_seconds` of the sites that train.
    """
    newest, elapsed = records.newest_round, _open_for(records)
    if newest is None or elapsed is None or records.final is not None or newest >= rounds:
        return None
    lengths = [*round_seconds(records).values()]
    if lengths:
        length = fmean(lengths[-_ROUNDS_FOR_ETA:])
        return max(length - elapsed.total_seconds(), 0.0) + length * (rounds - newest - 1)
    # In the first round the slowest site says how long one takes.
    slowest = max(rests, default=None)
    if slowest is None:
        return None
    return slowest + (elapsed.total_seconds() + slowest) * (rounds - newest - 1)


def _open_for(records: FederationRecords) -> timedelta | None:
    if records.newest_round is None:
        return None
    return max(timedelta(), records.now - records.committed[records.newest_round])


def round_seconds(records: FederationRecords) -> dict[int, float]:
    """How long each trained round took. Round 0 trains nothing."""
    times = records.committed
    return {
        number: (times[number] - times[number - 1]).total_seconds()
        for number in sorted(times)
        if number >= 1 and number - 1 in times
    }
