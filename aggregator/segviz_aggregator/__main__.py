"""`python -m segviz_aggregator`: one process per federation; a second one is harmless."""

import logging
import sys
from pathlib import Path

import click
from prometheus_client import CollectorRegistry

from segviz_aggregator.loop import Aggregator, run
from segviz_aggregator.pulse import Pulse
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import InvalidRecord
from segviz_exchange.process import logs
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.http_pages import serve_metrics
from segviz_exchange.process.lock import lock
from segviz_exchange.process.pace import MOST_SECONDS, Pace
from segviz_exchange.process.stopping import Stop, Stopped
from segviz_exchange.process.waiting import Waiting
from segviz_exchange.stores.changes import alarm_of
from segviz_exchange.stores.measured import MeasuredStore, StoreMetrics
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.probe import probe
from segviz_exchange.stores.store import StoreError

PATIENCE_SECONDS = 600.0

log = logging.getLogger("segviz_aggregator")


@click.command()
@click.option("--store", "url", required=True, help="Folder, s3://HOST/BUCKET or s3+http://HOST/BUCKET.")
@click.option("--prefix", required=True, help="The federation's prefix in the store, with a final slash.")
@click.option("--scratch", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--poll-seconds",
    default=MOST_SECONDS,
    show_default=True,
    type=click.FloatRange(min=0.01),
    help="The longest it waits before it looks again.",
)
@click.option(
    "--stop-on-stdin-eof", is_flag=True, help="Stop when the parent process, which holds stdin, dies."
)
def main(url: str, prefix: str, scratch: Path, poll_seconds: float, stop_on_stdin_eof: bool) -> None:
    """Close and merge the rounds of one federation until it has a final model.

    SCRATCH needs room for one model per site and two more, and half as much again where updates travel as
    changes. It is disposable and this process's own.
    """
    if not prefix.endswith("/"):
        raise click.UsageError(f"--prefix {prefix!r} does not end with a slash; write {prefix + '/'!r}.")
    namespace, name = keys.federation_of(prefix)
    logs.configure("aggregator", f"{namespace}/{name}")
    registry = CollectorRegistry()
    stop = Stop(watch_stdin=stop_on_stdin_eof)
    try:
        opened = open_store(url).scoped(prefix)
        hasty = MeasuredStore(opened, StoreMetrics(registry))
        store = PatientStore(hasty, PATIENCE_SECONDS)
        serve_metrics(registry)
        with stop.interrupting():
            store.now()  # a store that is away is waited for here, where a stop need not wait for threads
            probe(hasty.scoped("global/"))  # no other place is sure to be the aggregator's
        with lock(scratch, stop, "another aggregator"):
            # Its own records in global/ are no news to it.
            alarm = alarm_of(opened, (keys.SITES, keys.CONTROLS), keys.is_news, stop)
            waiting = Waiting(Pace(poll_seconds), stop, alarm)
            code = run(Aggregator(store, scratch, Pulse(namespace, name, registry)), stop, waiting)
    except Stopped:
        code = Exit.STOPPED
    except Refusal as refusal:
        logs.say_why(log, str(refusal))
        code = Exit.REFUSED
    except InvalidRecord as error:
        logs.say_why(log, f"{error}. Was it written by another version of SegViz?")
        code = Exit.REFUSED
    except StoreError as error:
        logs.say_why(log, f"the store: {type(error).__name__}: {error}")
        code = Exit.RETRY
    sys.exit(code)


if __name__ == "__main__":
    main()
