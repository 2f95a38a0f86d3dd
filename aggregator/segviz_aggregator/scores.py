"""The sites' validation scores, read from the store when training is over."""

import logging
from collections.abc import Iterable

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import InvalidRecord, find
from segviz_exchange.contract.records import RoundScores
from segviz_exchange.stores.store import Store

log = logging.getLogger(__name__)


def read_scores(
    store: Store, sites: Iterable[str], rounds: Iterable[int]
) -> dict[int, dict[str, RoundScores]]:
    """By round and alias, as many as there are."""
    aliases = tuple(sites)
    return {
        round_: {alias: scores for alias in aliases if (scores := _read(store, alias, round_))}
        for round_ in rounds
    }


def _read(store: Store, site: str, round_: int) -> RoundScores | None:
    key = keys.scores(site, round_)
    try:
        scores = find(store, key, RoundScores)
    except InvalidRecord as error:
        log.warning("scores are ignored: %s", error)
        return None
    if scores is not None and (scores.site, scores.round) != (site, round_):
        log.warning("scores are ignored: %s is about %s, round %d", key, scores.site, scores.round)
        return None
    return scores
