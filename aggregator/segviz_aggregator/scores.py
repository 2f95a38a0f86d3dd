"""The sites' validation scores, read when training is over."""

import logging
from collections.abc import Iterable

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import InvalidRecord, Ledger
from segviz_exchange.contract.records import RoundScores

log = logging.getLogger(__name__)


def read_scores(
    ledger: Ledger, sites: Iterable[str], rounds: Iterable[int]
) -> dict[int, dict[str, RoundScores]]:
    """By round and alias, as many as there are."""
    aliases = tuple(sites)
    return {
        round_: {alias: scores for alias in aliases if (scores := _read(ledger, alias, round_))}
        for round_ in rounds
    }


def _read(ledger: Ledger, site: str, round_: int) -> RoundScores | None:
    key = keys.scores(site, round_)
    try:
        scores = ledger.find(key, RoundScores)
    except InvalidRecord as error:
        log.warning("scores are ignored: %s", error)
        return None
    if scores is not None and (scores.site, scores.round) != (site, round_):
        log.warning("scores are ignored: %s is about %s, round %d", key, scores.site, scores.round)
        return None
    return scores
