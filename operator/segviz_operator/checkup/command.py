"""`segviz doctor`: what stands in the way, and what to do about it."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.text import Text

from segviz_exchange.process.console import open_console
from segviz_operator.checkup.finding import Finding, Verdict
from segviz_operator.checkup.joining import check_join

_EXAMPLES = """\b
Examples:
  segviz doctor                        # the CRDs and the operator
  segviz doctor -n radiology abdomen   # and this federation, store and sites
  segviz doctor --site basel/basel     # and this site, as its owner sees it
  segviz doctor --operator segviz/segviz-operator -n radiology abdomen
  # before segviz join, at the site:
  segviz doctor --join basel.json --site-file site.yaml --data /data/ct
"""
_SIGNS = {Verdict.GOOD: ("✓", "green"), Verdict.BAD: ("✗", "red"), Verdict.UNKNOWN: ("?", "yellow")}


def _pair(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, str]:
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise click.BadParameter(f"{text!r} is not NAMESPACE/NAME.", context, parameter)
    return namespace, name


def _pairs(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    return tuple(_pair(context, parameter, text) for text in texts)


@click.command(epilog=_EXAMPLES)
@click.argument("name", required=False)
@click.option("-n", "--namespace", default="default", show_default=True, help="The federation's namespace.")
@click.option(
    "--site",
    "sites",
    multiple=True,
    callback=_pairs,
    metavar="NAMESPACE/NAME",
    help="A site. May be repeated.",
)
@click.option(
    "--operator",
    default="segviz-system/segviz-operator",
    show_default=True,
    callback=_pair,
    metavar="NAMESPACE/ACCOUNT",
    help="Where the operator runs, and as whom.",
)
@click.option("--no-store", is_flag=True, help="Skip the store: it may not be reachable from here.")
@click.option(
    "--join", "joinfile", type=click.Path(path_type=Path), metavar="FILE", help="A join file, at its site."
)
@click.option("--site-file", type=click.Path(path_type=Path), help="With --join: the site's own SegVizSite.")
@click.option("--data", type=click.Path(path_type=Path), help="With --join: the folder of its images.")
def doctor(
    name: str | None,
    namespace: str,
    sites: tuple[tuple[str, str], ...],
    operator: tuple[str, str],
    no_store: bool,
    joinfile: Path | None,
    site_file: Path | None,
    data: Path | None,
) -> None:
    """Find what keeps a federation or a site from working, and say what to do.

    NAME is a SegVizFederation; without it, only the CRDs and the operator are checked. The API server is
    asked with your own rights (KUBECONFIG): what you may not read is marked "?". With --join no cluster is
    asked: DNS, proxy, TLS, clock, rights, data and GPU are checked from this machine.

    \b
    Exit codes: 0 nothing is wrong, 1 there is something to fix, 2 the API
    server did not answer.
    """
    if joinfile is not None:
        if name or sites:
            raise click.UsageError("--join looks at this machine alone: leave out NAME and --site.")
        _end(check_join(joinfile, site_file, data))
    if site_file is not None or data is not None:
        raise click.UsageError("--site-file and --data go with --join FILE, at a site outside the cluster.")
    # Here, for a site's own machine has no Kubernetes client.
    from segviz_operator.checkup.cluster import findings_of

    _end(findings_of(operator, namespace, name, sites, asks_store=not no_store))


def _end(findings: Iterable[Finding]) -> NoReturn:
    console = open_console()
    bad = sum(_tell(finding, console) for finding in findings)
    if bad:
        console.print(f"\n{bad} {'problem' if bad == 1 else 'problems'} to fix.")
    sys.exit(1 if bad else 0)


def _tell(finding: Finding, console: Console) -> bool:
    sign, colour = _SIGNS[finding.verdict]
    console.print(Text.assemble((sign, colour), " ", finding.what), soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"    {finding.remedy}"), soft_wrap=True)
    return finding.verdict is Verdict.BAD
