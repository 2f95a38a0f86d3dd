"""What the sites have delivered for the open round: each new update is looked into once."""

import logging

from segviz_aggregator import reasons
from segviz_aggregator.agreement import Offer, agree, difference
from segviz_aggregator.models import GlobalModels
from segviz_aggregator.schema import read_schema
from segviz_aggregator.scratch import Scratch
from segviz_aggregator.situation import Observer, Situation
from segviz_aggregator.verify import Candidate, Fault, verify
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import Weights
from segviz_exchange.contract.closing import (
    MAX_ATTEMPTS,
    RoundRecords,
    SiteRecords,
    close_round,
    expected_sites,
)
from segviz_exchange.contract.ledger import InvalidRecord, as_rejection, numbered, read
from segviz_exchange.contract.records import Closing, Control, Rejection, Update
from segviz_exchange.stores.store import Endless, Entry, NotFound, Store

log = logging.getLogger(__name__)


class Collector:
    """Remembers which updates it has accepted; rejections are remembered by the store."""

    def __init__(self, store: Store, scratch: Scratch, observer: Observer, models: GlobalModels) -> None:
        self._store = store
        self._scratch = scratch
        self._observer = observer
        self._models = models
        self._accepted: dict[str, Update] = {}
        """By key."""
        self._weights: dict[str, int] = {}
        """By alias, of a site's first round, among those that are searched."""
        self._searched = 0
        self._warned: set[str] = set()
        """Digests of round 0 that differ in values alone."""

    def collect(self, situation: Situation) -> RoundRecords:
        expected = expected_sites(situation.control, situation.joined)
        sites = {alias: self._site(alias, situation) for alias in expected}
        records = RoundRecords(
            situation.round,
            situation.joined,
            sites,
            situation.opened,
            situation.suspended,
            self._admitted(situation),
        )
        if situation.round == 0 and isinstance(
            close_round(situation.control, records, situation.now), Closing
        ):
            self._agree(sites, situation)
        return records

    def _site(self, site: str, situation: Situation) -> SiteRecords:
        """Attempts in their order: one counts only when those before it were rejected."""
        ledger = self._observer.ledger
        entries = ledger.numbered(keys.updates(site, situation.round))
        if not entries:
            return SiteRecords()
        rejected = ledger.numbered(keys.rejections(site, situation.round))
        rejections: list[Rejection] = []
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if attempt in rejected:
                rejections.append(ledger.rejection(rejected[attempt].key))
            elif attempt not in entries:
                break
            else:
                verdict = self._verdict(site, attempt, entries[attempt], situation)
                if isinstance(verdict, Update):
                    return SiteRecords(verdict, tuple(rejections))
                rejections.append(self._reject(site, situation.round, attempt, verdict))
        return SiteRecords(None, tuple(rejections))

    def _verdict(self, site: str, attempt: int, entry: Entry, situation: Situation) -> Update | Fault:
        if entry.key in self._accepted:
            return self._accepted[entry.key]
        try:
            update = read(self._store, entry.key, Update)
        except (InvalidRecord, NotFound) as error:
            return Fault(reasons.INVALID_RECORD, str(error))
        blob, ledger = keys.site_blob(site, update.blob), self._observer.ledger
        try:
            # Listed now, once an update: the step's listing may be older than what the update was made with.
            leases = numbered(self._store, keys.leases(site))
            blobs = self._store.list(blob)
        except Endless as error:
            return Fault(reasons.INVALID_RECORD, str(error))
        fault = verify(
            Candidate(
                site=site,
                round=situation.round,
                attempt=attempt,
                update=update,
                committed=entry.modified,
                newest_lease=leases[max(leases)] if leases else None,
                blob=next((listed for listed in blobs if listed.key == blob), None),
                control=situation.control,
                made_under=ledger.find_unlisted(keys.control(update.control), Control),
                reference=self._models.reference(situation.previous),
            ),
            self._store,
            self._scratch,
        )
        if fault is not None:
            return fault
        log.info("round %d: accepted %s's attempt %d", situation.round, site, attempt)
        self._accepted[entry.key] = update
        return update

    def _reject(self, site: str, round_: int, attempt: int, fault: Fault) -> Rejection:
        log.warning(
            "round %d: rejected %s's attempt %d: %s: %s", round_, site, attempt, fault.reason, fault.message
        )
        key, ledger = keys.rejection(site, round_, attempt), self._observer.ledger
        try:
            return ledger.commit(key, Rejection(site, round_, attempt, fault.reason, fault.message))
        except InvalidRecord as error:
            return as_rejection(key, error)  # one was there already

    def _admitted(self, situation: Situation) -> dict[str, int]:
        """What the sites weighed in their first rounds, where claims count."""
        if situation.control.spec.algorithm.weights is not Weights.CASES:
            return {}
        ledger = self._observer.ledger
        for round_ in range(self._searched, situation.round):
            closing = ledger.find(keys.closing(round_), Closing)
            for participant in closing.participants if closing else ():
                self._weights.setdefault(participant.site, participant.weight)
        self._searched = situation.round
        return self._weights

    def _agree(self, sites: dict[str, SiteRecords], situation: Situation) -> None:
        """Round 0: reject what is not the model that most sites offer."""
        updates = {alias: records.accepted for alias, records in sites.items() if records.accepted}
        offers = [self.offer(each.site, each.blob, situation.control) for each in updates.values()]
        agreement = agree(offers)
        chosen, named = agreement.chosen, ", ".join(agreement.agreeing)
        for offer in offers:
            if offer.site in agreement.agreeing:
                continue
            fault = None
            if schema := offer.schema.difference(chosen.schema):
                message = f"{schema}, in the model of {named}. Run one version of SegViz at all sites."
                fault = Fault(reasons.SCHEMA_DIFFERS, message)
            elif (values := difference(offer, chosen)) and agreement.decided:
                message = f"{values} from the start model of {named}. Run one build of torch at all sites."
                fault = Fault(reasons.START_DIFFERS, message)
            elif offer.digest not in self._warned:
                log.warning("round 0: %s starts from other values than %s: %s", offer.site, named, values)
                self._warned.add(offer.digest)
            if fault is not None:
                rejection = self._reject(offer.site, 0, updates[offer.site].attempt, fault)
                sites[offer.site] = SiteRecords(None, (*sites[offer.site].rejections, rejection))

    def offer(self, site: str, digest: str, control: Control) -> Offer:
        """A start model. Raises NotFound, Corrupt or InvalidTensors."""
        file = self._scratch.fetch(self._store, keys.site_blob(site, digest), digest)
        return Offer(site, digest, file, read_schema(file).extended(control))
