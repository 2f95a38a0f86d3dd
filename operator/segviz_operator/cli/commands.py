"""The commands that come with the extra `operator`."""

import math
import sys
from pathlib import Path

import click

from segviz_exchange.process.console import open_console
from segviz_exchange.process.http_pages import LOOPBACK
from segviz_exchange.process.stopping import Stop
from segviz_operator.cli.status import print_status
from segviz_operator.cli.web import serve_page
from segviz_operator.local.body import run_locally
from segviz_operator.local.ending import print_end
from segviz_operator.local.files import ManifestFiles
from segviz_operator.local.report_files import write_page
from segviz_operator.local.volumes import parse_volumes
from segviz_operator.local.wishes import Request
from segviz_operator.local.workdir import WorkDir
from segviz_operator.manifests.acceptance import accept
from segviz_operator.manifests.advice import advice
from segviz_operator.manifests.manifest import Federation, Manifests, Reading, Study, read
from segviz_operator.manifests.problem import InvalidManifest
from segviz_operator.study.rows import expand
from segviz_operator.terminal.live import open_view

_VALIDATE_EXAMPLES = """\b
Examples:
  segviz validate federation.yaml
  segviz validate federation.yaml sites/
"""


@click.command(epilog=_VALIDATE_EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.pass_context
def validate(context: click.Context, files: tuple[Path, ...]) -> None:
    """Check manifests without a cluster.

    FILE is a YAML file or a folder of them. Each manifest is checked as the API server would check it, and
    where the files hold sites, each federation also against its sites. Exit code 2 means that something is
    wrong.
    """
    reading = read(files)
    problems = [str(problem) for problem in reading.problems]
    for site in reading.manifests.sites:
        click.echo(f"{site}: ok")
    for federation in reading.manifests.federations:
        # A site that could not be read would be reported again, as missing.
        unfit = () if reading.problems else _unfit(federation, reading.manifests)
        problems += unfit
        if not unfit:
            click.echo(f"{federation}: ok{_reservation(reading)}")
            if note := advice(federation.spec):
                click.echo(f"{federation}: note: {note}", err=True)
    for study in reading.manifests.studies:
        unfit = () if reading.problems else _unfit_study(study, reading.manifests)
        problems += [problem for problem in unfit if problem not in problems]
        if not unfit:
            click.echo(f"{study}: ok{_reservation(reading)}")
    for name in reading.manifests.foreign:
        click.echo(f"{name}: not SegViz's, not checked")
    for problem in problems:
        click.echo(problem, err=True)
    context.exit(2 if problems else 0)


def _unfit(federation: Federation, manifests: Manifests) -> tuple[str, ...]:
    """What keeps it from being accepted, as far as these files tell."""
    if not manifests.sites:
        return ()
    try:
        accept(federation, manifests.sites)
    except InvalidManifest as error:
        return tuple(map(str, error.problems))
    return ()


def _unfit_study(study: Study, manifests: Manifests) -> tuple[str, ...]:
    """The same of every row's federation."""
    if not manifests.sites:
        return ()
    try:
        expand(study, manifests)
    except InvalidManifest as error:
        return tuple(map(str, error.problems))
    return ()


def _reservation(reading: Reading) -> str:
    if reading.problems:
        return " (by itself: not yet against the rest, which has to be mended first)"
    return "" if reading.manifests.sites else " (without its sites: the files hold none of them)"


def _refuse_nan(context: click.Context, parameter: click.Parameter, value: float) -> float:
    # It is neither below nor above any bound.
    if math.isnan(value):
        raise click.BadParameter("nan is not a time. Give seconds, such as 0.5.", context, parameter)
    return value


_RUN_EXAMPLES = """\b
Examples:
  segviz run examples/phantom/federation.yaml --data phantom/
  segviz run federation.yaml sites.yaml \\
    --data basel=/data/liver --data bern=/data/spleen
  segviz run federation.yaml sites.yaml --workdir /scratch/run1 \\
    --store s3://minio.example.org/segviz
"""


@click.command(epilog=_RUN_EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--workdir",
    type=click.Path(path_type=Path),
    help="Folder for everything in this run.  [default: runs/<federation's name>]",
)
@click.option(
    "--data",
    multiple=True,
    metavar="[ALIAS=]FOLDER",
    help="Folder with the images of a site, instead of its PersistentVolumeClaim; without ALIAS, of every "
    "site. May be repeated.",
)
@click.option(
    "--store", help="Keep records and models here instead of in the working folder: s3://HOST/BUCKET."
)
@click.option(
    "--poll-seconds",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0.05, max=3600),
    callback=_refuse_nan,
    help="The longest that a process waits before it looks for changes again.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65_000),
    help="Serve metrics for Prometheus, and a page for people, on this port of 127.0.0.1; each process "
    "serves its own on one of the ports after it. WORKDIR/targets.json lists them for Prometheus.",
)
def run(
    files: tuple[Path, ...],
    workdir: Path | None,
    data: tuple[str, ...],
    store: str | None,
    poll_seconds: float,
    metrics_port: int | None,
) -> None:
    """Run a federation on this machine, with a process for each site.

    FILE is a YAML file, or a folder of them, with one SegVizFederation and its SegVizSites. Edit the files
    while it runs to let a site join or leave, to suspend, or to change the participation. After Ctrl-C, a
    crash or a power cut, run the same command again to continue.

    \b
    Exit codes: 0 complete, 1 the federation has failed, 2 a mistake in the
    input (nothing was started), 130 interrupted.
    """
    stop = Stop()
    manifests = ManifestFiles(files)
    folder = WorkDir(workdir or Path("runs") / manifests.name())
    request = Request(manifests, parse_volumes(data), store, poll_seconds, metrics_port)
    console = open_console()
    end = run_locally(request, folder, stop, open_view(console))
    if print_end(end, folder, console):
        write_page(folder)  # without it the run is no less complete: its exit code stays
    sys.exit(end)


_STATUS_EXAMPLES = """\b
Examples:
  segviz status runs/phantom
  segviz status runs/phantom --json | jq .phase
  segviz status -n radiology abdomen --watch
  segviz status -n radiology abdomen --site 'north-*'
  segviz status runs/phantom --web
"""


@click.command(epilog=_STATUS_EXAMPLES)
@click.argument("what", metavar="WORKDIR|NAME")
@click.option("-n", "--namespace", help="NAME is a SegVizFederation in this namespace of the cluster.")
@click.option("-w", "--watch", is_flag=True, help="Keep showing it until it has ended (cluster only).")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.option("--site", help="Show the sites with this in their name; * and ? stand for any text.")
@click.option("--web", is_flag=True, help="Serve a live page of WORKDIR instead, until Ctrl-C.")
@click.option(
    "--port", default=8600, show_default=True, type=click.IntRange(0, 65535), help="Port for --web."
)
@click.option(
    "--bind",
    default=LOOPBACK,
    show_default=True,
    help="Address for --web; anyone who can reach it can read the page.",
)
@click.option("--prometheus", help="With --web: draw the curves from the Prometheus at this URL.")
def status(
    what: str,
    namespace: str | None,
    watch: bool,
    as_json: bool,
    site: str | None,
    web: bool,
    port: int,
    bind: str,
    prometheus: str | None,
) -> None:
    """Show the state of the federation in WORKDIR or, with -n, of NAME in the cluster."""
    console = open_console()
    if web:
        if namespace is not None:
            raise click.UsageError(
                "--web is for a WORKDIR. The operator has a page of its own: kubectl port-forward "
                "deployment/segviz-operator 8081"
            )
        serve_page(WorkDir(Path(what)), port, bind, prometheus, Stop())
        return
    if namespace is None:
        if watch:
            raise click.UsageError("--watch needs -n NAMESPACE. For a run on this machine use --web.")
        print_status(WorkDir(Path(what)), as_json, console, site)
        return
    from segviz_operator.cli.cluster_view import (
        print_federation,  # the cluster's client takes a second to load
    )

    print_federation(namespace, what, watch, as_json, console, site)


_LOGS_EXAMPLES = """\b
Examples:
  segviz logs -n radiology abdomen
  segviz logs -n radiology abdomen basel --tail 1000
"""


@click.command(epilog=_LOGS_EXAMPLES)
@click.argument("name")
@click.argument("site", required=False)
@click.option("-n", "--namespace", required=True, help="The federation's namespace.")
@click.option("--tail", default=200, show_default=True, type=click.IntRange(min=1), help="Lines of each Pod.")
def logs(name: str, site: str | None, namespace: str, tail: int) -> None:
    """Print the logs of a federation's newest Pods, or of those of one SITE (its alias)."""
    from segviz_operator.cli.cluster_view import print_logs

    print_logs(namespace, name, site, tail, open_console())
