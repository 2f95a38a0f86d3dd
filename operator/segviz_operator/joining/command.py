"""`segviz join`."""

import sys
from pathlib import Path

import click

from segviz_exchange.process.console import open_console
from segviz_exchange.process.stopping import Stop
from segviz_operator.joining.attend import RENEW_SECONDS, TRAINER, Joining
from segviz_operator.joining.seat import take_seat
from segviz_operator.joining.view import open_join_view

_EXAMPLES = """\b
Examples:
  segviz join basel.json --site site.yaml --data /data/ct --state /data/segviz
"""


@click.command(epilog=_EXAMPLES)
@click.argument("joinfile", type=click.Path(path_type=Path))
@click.option(
    "--site",
    "manifest",
    required=True,
    type=click.Path(path_type=Path),
    help="The site's own SegVizSite: data sets, release, and which federations it consents to.",
)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of this machine that holds the site's images.",
)
@click.option(
    "--state",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Private folder to keep: checkpoints, cached images, heads, credentials.",
)
@click.option("--renew-seconds", default=RENEW_SECONDS, hidden=True, type=click.FloatRange(min=0.1))
def join(joinfile: Path, manifest: Path, data: Path, state: Path, renew_seconds: float) -> None:
    """Take part in a federation from outside its cluster.

    JOINFILE comes from the coordinator and holds credentials: treat it like a password. Everything is read
    from and written to the federation's object store; nothing connects to this machine. After Ctrl-C, a
    crash or a power cut, run the same command again to continue.

    \b
    Exit codes: 0 the federation is over for this site, 2 a mistake in the input
    or a refusal, 3 another process of this site took over, 130 interrupted.
    """
    stop = Stop()
    console = open_console()
    seat = take_seat(joinfile, manifest, data, state, console)
    with open_join_view(console, seat.alias) as view:
        code = Joining(seat, view, stop, TRAINER, renew_seconds).run()
    sys.exit(code)
