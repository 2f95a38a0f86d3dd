"""The trainer's processes, as a Job's container or the local body starts them.

torch and MONAI take seconds to import, and a process must be able to stop from its first moment on: so the
commands import them inside, once signals and stdin are watched.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segviz_exchange.contract import keys
from segviz_exchange.process import logs
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.pace import MOST_SECONDS
from segviz_exchange.process.stopping import Stop
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.patient import PatientStore
from segviz_trainer.cli.fingerprint import fingerprint
from segviz_trainer.participation.site_process import PATIENCE_SECONDS, SiteProcess, exit_code_of, run_site
from segviz_trainer.process.launch import (
    devices_here,
    end_with_parent,
    launch,
    leave_stops_to_the_leader,
    own_rank,
)

if TYPE_CHECKING:
    from segviz_trainer.training.team import Team


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--store", required=True, help="Folder or s3://HOST/BUCKET."),
        click.option("--prefix", required=True, help="The federation's prefix in the store."),
        click.option(
            "--stop-on-stdin-eof", is_flag=True, help="Stop when stdin closes, as when the parent dies."
        ),
    ):
        command = option(command)
    return command


def site_options(command: Callable[..., Any]) -> Callable[..., Any]:
    folder = click.Path(file_okay=False, path_type=Path)
    for option in (
        click.option("--site", "alias", required=True, help="The site's alias in the federation."),
        click.option(
            "--site-spec", required=True, type=click.Path(dir_okay=False, exists=True, path_type=Path)
        ),
        click.option("--data-root", required=True, type=folder, help="Where the site's volume is mounted."),
        click.option("--state", required=True, type=folder, help="The site's private folder."),
        click.option("--home", type=folder, help="For all its federations.  [default: STATE/../_site]"),
    ):
        command = option(command)
    return command


@click.group()
def main() -> None:
    """The processes of a site."""


@main.command()
@store_options
@site_options
@click.option(
    "--poll-seconds",
    default=MOST_SECONDS,
    show_default=True,
    help="The longest it waits before it looks again.",
)
@click.option(
    "--ranks",
    type=click.IntRange(min=1),
    envvar="SEGVIZ_RANKS",
    help="Processes that train together here. Left out: in a Pod one for each GPU, elsewhere one.",
)
def participate(poll_seconds: float, ranks: int | None, **options: Any) -> None:  # noqa: ANN401 - click's, by name
    """Train for a federation until it is over."""
    rank, wanted = own_rank(), ranks or devices_here()
    if rank is None and wanted > 1:
        logs.configure("trainer", "/".join(keys.federation_of(options["prefix"])), options["alias"])
        sys.exit(launch(wanted, watch_stdin=options["stop_on_stdin_eof"]))
    if rank is not None:
        end_with_parent(signal.SIGKILL if rank else signal.SIGTERM)
    if rank:
        follow()
        return

    def work(process: SiteProcess) -> Exit:
        from segviz_trainer.data.dataset import load_training_data
        from segviz_trainer.participation.idle import Idle
        from segviz_trainer.participation.participant import Participant
        from segviz_trainer.participation.rounds import RoundLoop
        from segviz_trainer.participation.telling import await_plan

        waiting = process.waiting(poll_seconds)
        with process.stop.interrupting():
            control = process.await_control(waiting)
            control = await_plan(process.store, process.site, control, process.heartbeat, waiting)
            process.examine(control)
            data = load_training_data(process.site, control.spec, process.preparing)
        with led(rank) as team:
            me = Participant(
                process.store, process.site, data, process.heartbeat, process.stop, process.pulse, team
            )
            return RoundLoop(me, waiting, Idle.at(process.site.spec)).run()

    run_site(work, **options)


def follow() -> None:
    """Take part in the steps of the first rank, until it is over."""
    from segviz_trainer.participation.follower import Follower
    from segviz_trainer.training.ranks import Ranks

    ranks = Ranks.join()
    leave_stops_to_the_leader()
    Follower(ranks).run()
    ranks.leave()


@contextmanager
def led(rank: int | None) -> "Iterator[Team | None]":
    """The other ranks, where there are any; they end with this."""
    if rank is None:
        yield None
        return
    from segviz_trainer.training.ranks import Ranks
    from segviz_trainer.training.team import Team

    team = Team(Ranks.join())
    try:
        yield team
    finally:
        team.dismiss()


@main.command()
@store_options
@site_options
def evaluate(**options: Any) -> None:  # noqa: ANN401 - click's, by name
    """Score the exported models on an external set."""

    def work(process: SiteProcess) -> Exit:
        from segviz_trainer.data.dataset import load_evaluation_data
        from segviz_trainer.participation.external import Evaluator

        with process.stop.interrupting():
            control = process.await_control(process.waiting())
            process.examine(control)
            cases = load_evaluation_data(process.site, control.spec, process.preparing)
            Evaluator(process.store, process.site, cases, process.heartbeat).run()
        return Exit.DONE

    run_site(work, **options)


@main.command()
@store_options
@click.option("--scratch", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path))
def export(store: str, prefix: str, stop_on_stdin_eof: bool, scratch: Path, output: Path) -> None:
    """Put a finished federation's model together."""
    stop = Stop(watch_stdin=stop_on_stdin_eof)
    logs.configure("export", "/".join(keys.federation_of(prefix)))

    def work() -> Exit:
        with stop.interrupting():
            from segviz_trainer.models.export import Exporter

            Exporter(PatientStore(open_store(store).scoped(prefix), PATIENCE_SECONDS), scratch, output).run()
        return Exit.DONE

    sys.exit(exit_code_of(work))


@main.command()
@click.option(
    "--study", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Its study.json."
)
def study_report(study: Path) -> None:
    """Compare a study's rows and write its report."""

    def work() -> Exit:
        from segviz_exchange.process.console import open_console
        from segviz_trainer.study.command import write_report

        write_report(study, open_console())
        return Exit.DONE

    sys.exit(exit_code_of(work))


@main.command()
@click.option("--run", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Its run.json.")
def report(run: Path) -> None:
    """Write the report of a run on this machine."""

    def work() -> Exit:
        from segviz_exchange.process.console import open_console
        from segviz_trainer.report.command import write_report

        write_report(run, open_console())
        return Exit.DONE

    sys.exit(exit_code_of(work))


@main.command()
@click.option("--store", required=True, help="Folder or s3://HOST/BUCKET.")
@click.option("--prefix", required=True, help="The federation's prefix in the store.")
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--run", type=click.Path(dir_okay=False, path_type=Path), help="run.json, where the images lie here."
)
def fetch(store: str, prefix: str, output: Path, run: Path | None) -> None:
    """Write a finished federation's models and its report to a folder."""

    def work() -> Exit:
        from segviz_exchange.process.console import open_console
        from segviz_trainer.report import command

        images = None if run is None else command.Images(command.read_run_index(run), run.parent)
        name = "/".join(keys.federation_of(prefix))
        command.fetch(open_store(store).scoped(prefix), name, output, images, open_console())
        return Exit.DONE

    sys.exit(exit_code_of(work))


main.add_command(fingerprint)

if __name__ == "__main__":
    logs.configure("trainer")
    main()
