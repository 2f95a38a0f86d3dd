"""What lies in a federation's folders, where one site may have filled its own beyond what anybody lists."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from segviz_exchange.contract import keys
from segviz_exchange.contract.records import Control
from segviz_exchange.stores.store import Endless, Entry, Store

log = logging.getLogger(__name__)

MAX_SITE_KEYS = 20_000
MAX_SITE_KEYS_A_ROUND = 16
"""Where sites are listed one by one: so many, and for each round so many more."""
_SHARED = (keys.CONTROLS, keys.GLOBAL, keys.EXPORTS)


@dataclass
class Listing:
    """Lists a folder at once for as long as that is possible, and from then on site by site."""

    crowded: dict[str, str] = field(default_factory=dict)
    """Why, by alias: sites whose folders are not looked at any more, until the process starts anew."""
    _apart: bool = False

    def of(self, store: Store, folder: str, newest: Callable[[], Control | None]) -> Iterator[Entry]:
        """
        Args:
            newest: reads the control that says who may write, where that is asked for.

        Raises:
            Endless: it is not one of its sites' doing.
        """
        if folder not in ("", keys.SITES):
            yield from store.list(folder)
            return
        if not self._apart:
            try:
                yield from store.list(folder)
            except Endless as error:
                log.warning("%s. Sites are listed one by one from now on", error)
                self._apart = True
            else:
                return
        for part in () if folder else _SHARED:
            yield from store.list(part)
        if control := newest():
            most = MAX_SITE_KEYS + control.spec.rounds * MAX_SITE_KEYS_A_ROUND
            aliases = {*control.members, *(member.alias for member in control.spec.evaluation.sites)}
            for alias in sorted(aliases - self.crowded.keys()):
                yield from self._site(store, alias, most)

    def _site(self, store: Store, alias: str, most: int) -> list[Entry]:
        own = f"{keys.SITES}{alias}/"
        try:
            entries = store.list(own)
            if len(entries) > most:
                raise Endless(own, f"holds more than {most} objects", [])
        except Endless as error:
            self.crowded[alias] = str(error)
            log.warning("%s: %s", alias, error)
            return []
        return entries
