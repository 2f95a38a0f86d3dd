"""What signatures cost: a record written and read, with them and without, over a folder.

    python bench/signing.py

The series is the dearest case: rounds, each of which names the one before and is remembered on disk.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import commit, read
from segviz_exchange.contract.records import Environment, Record, Round, Update
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.keyring import Keyring, Trusted, Writers
from segviz_exchange.stores.signed import SignedStore
from segviz_exchange.stores.store import Store

SITES = 4
RECORDS_A_ROUND = 2 * SITES + 2
"""An update and scores of each site, a closing and the round."""
READERS = SITES + 2
"""Of a round's records at most: all sites, the aggregator and the coordinator."""
DIGEST = "0" * 64


@click.command()
@click.option("--records", default=200, show_default=True, help="Of each kind.")
def main(records: int) -> None:
    """Print milliseconds a record, and what they make of a round."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ring = Keyring(root / "keys")
        writers = Writers((ring.public,), decides=True)
        series = Writers((ring.public,), decides=True, first=0)
        ring.trust(Trusted("", {keys.SITES: writers, keys.ROUNDS: series}))
        signed = SignedStore(FolderStore(root / "signed"), ring)
        plain = FolderStore(root / "plain")
        kinds: dict[str, Callable[[int], tuple[str, Record]]] = {
            "update": lambda n: (keys.update("basel", n, 1), update_of(n)),
            "round": lambda n: (keys.round_record(n), Round(n, 1, DIGEST, 1, ("basel",))),
        }
        added = {}
        for name, make in kinds.items():
            with_, without = timed(signed, make, records), timed(plain, make, records)
            added[name] = [1000 * (a - b) for a, b in zip(with_, without, strict=True)]
            click.echo(f"{name}: {added[name][0]:.2f} ms more to write, {added[name][1]:.2f} ms more to read")
    # As if every reader read every record, and all of them one after the other.
    a_round = RECORDS_A_ROUND * (added["round"][0] + READERS * added["round"][1])
    share = a_round / 60_000
    click.echo(f"a round of {SITES} sites: at most {a_round:.0f} ms more, {share:.2%} of a round of a minute")


def update_of(round_: int) -> Update:
    environment = Environment("2.8.0", "cpu", "FP32", "Contiguous", 1)
    return Update("basel", round_, 1, 1, 1, DIGEST, 1, 10, 0.5, 1.0, environment)


def timed(store: Store, make: Callable[[int], tuple[str, Record]], records: int) -> tuple[float, float]:
    """Median seconds to write a record, and to read it."""
    written, read_ = [], []
    for number in range(records):
        key, record = make(number)
        began = time.perf_counter()
        commit(store, key, record)
        written.append(time.perf_counter() - began)
        began = time.perf_counter()
        read(store, key, Update if isinstance(record, Update) else Round)
        read_.append(time.perf_counter() - began)
    return statistics.median(written), statistics.median(read_)


if __name__ == "__main__":
    main()
