"""What a site would tell of its cases: `python -m segviz_trainer fingerprint`, for `segviz plan`."""

import sys
from pathlib import Path

import click

from segviz_exchange.contract.ledger import encode
from segviz_exchange.process import logs
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.exits import Exit
from segviz_trainer.process.site import Site, read_site_spec


@click.command()
@click.option("--site", "alias", required=True, help="The site's alias in the federation.")
@click.option("--site-spec", required=True, type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--data-root", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", required=True, type=int, help="The federation's, which decides who trains.")
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path))
def fingerprint(alias: str, site_spec: Path, data_root: Path, seed: int, output: Path) -> None:
    """Measure a site's training cases and write its fingerprint; nothing leaves this machine."""
    # Here, so that --help answers at once.
    from segviz_trainer.participation.telling import measured_of

    logs.configure("fingerprint", alias)
    site = Site(alias, read_site_spec(site_spec), data_root, output.parent)
    try:
        output.write_bytes(encode(measured_of(site, seed, lambda done, cases, case: None)))
    except Refusal as error:
        click.echo(f"site {alias}: {error}", err=True)
        sys.exit(Exit.REFUSED)
