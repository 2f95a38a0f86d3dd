"""What a closing's participants have delivered, fetched for its merge: until then a site may change it."""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from msgspec.structs import replace

from segviz_aggregator import reasons
from segviz_aggregator.verify import Fault
from segviz_exchange.contract import keys
from segviz_exchange.contract.codec import InvalidTensors, TensorFile
from segviz_exchange.contract.ledger import InvalidRecord, Ledger
from segviz_exchange.contract.records import Closing, Participant, Rejection
from segviz_exchange.process.ahead import side_by_side
from segviz_exchange.stores.store import Corrupt, NotFound, StoreError

log = logging.getLogger(__name__)

DOWNLOADS = 4
"""At once: a store's answers are hashed and written beside each other."""

Fetch = Callable[[Participant], TensorFile]


def gather(
    closing: Closing, needed: int, ledger: Ledger, fetch: Fetch
) -> tuple[Closing, Mapping[str, TensorFile]]:
    """The closing with those of its participants that can be merged, and their files by alias.

    One whose blob is gone or changed since is rejected by name, and the others go on, where `needed` of them
    are left. The rejection is the commit: whoever starts anew leaves out the same.

    Raises:
        NotFound, Corrupt: they would not be enough without it; nobody is rejected then.
    """
    gone = {each.site for each in closing.participants if ledger.holds(_key(closing, each))}
    if len(closing.participants) - len(gone) < needed:
        gone = set()
    files: dict[str, TensorFile] = {}
    lost: dict[str, tuple[Participant, NotFound | Corrupt]] = {}
    wanted = [each for each in closing.participants if each.site not in gone]
    fetches = (partial(_tried, each, fetch) for each in wanted)
    for each, got in zip(wanted, side_by_side(fetches, workers=DOWNLOADS, name="fetching"), strict=True):
        if isinstance(got, TensorFile):
            files[each.site] = got
        else:
            lost[each.site] = each, got
    for site, (participant, _) in tuple(lost.items()):
        # What another has delivered too is here by now, whoever has it no more.
        if isinstance(got := _tried(participant, fetch), TensorFile):
            files[site] = got
            del lost[site]
    for _, error in lost.values():
        if len(files) < needed:
            raise error
    for participant, error in lost.values():
        _reject(ledger, closing, participant, error)
    kept = tuple(each for each in closing.participants if each.site in files)
    return replace(closing, participants=kept), files


def _tried(participant: Participant, fetch: Fetch) -> TensorFile | NotFound | Corrupt:
    try:
        return fetch(participant)
    except (NotFound, Corrupt) as error:
        return error
    except InvalidTensors as error:
        return Corrupt(str(error))
    except StoreError as error:
        # Neither away nor forbidden: such as encrypted since with a key that only its writer has.
        if type(error) is not StoreError:
            raise
        key = keys.site_blob(participant.site, participant.blob)
        return Corrupt(f"{key}: cannot be read: {error}")


def _reject(ledger: Ledger, closing: Closing, participant: Participant, error: NotFound | Corrupt) -> None:
    reason = reasons.BLOB_CORRUPT if isinstance(error, Corrupt) else reasons.BLOB_MISSING
    fault = Fault(reason, f"after the round was closed with it: {error}")
    log.error(
        "round %d: merged without %s: %s: %s", closing.round, participant.site, fault.reason, fault.message
    )
    rejection = Rejection(participant.site, closing.round, participant.attempt, fault.reason, fault.message)
    try:
        ledger.commit(_key(closing, participant), rejection)
    except InvalidRecord as unreadable:
        log.warning("%s", unreadable)  # one was there already, and holds as it is


def _key(closing: Closing, participant: Participant) -> str:
    return keys.rejection(participant.site, closing.round, participant.attempt)
