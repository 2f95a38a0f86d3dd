"""The trainer's processes, as a Job's container or the local body starts them.

torch and MONAI take seconds to import, and a process must be able to stop from its first moment on: so the
commands import them inside, once signals and stdin are watched.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from prometheus_client import CollectorRegistry

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import newest_control
from segviz_exchange.contract.progress import Phase
from segviz_exchange.contract.records import Control
from segviz_exchange.contract.site_spec import SiteSpec
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
from segviz_exchange.stores.store import Store, StoreError
from segviz_trainer.process.errors import outside
from segviz_trainer.process.heartbeat import Heartbeat, Superseded, take_lease
from segviz_trainer.process.pulse import Pulse, PulseCollector
from segviz_trainer.process.site import Site

log = logging.getLogger("segviz_trainer")

PATIENCE_SECONDS = 15 * 60
"""How long a process waits for a store that does not answer before it gives up and is started again."""


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
def participate(poll_seconds: float, **options: Any) -> None:  # noqa: ANN401 - click's, by name
    """Train for a federation until it is over."""

    def work(process: SiteProcess) -> Exit:
        from segviz_trainer.data.dataset import load_training_data
        from segviz_trainer.participation.idle import Idle
        from segviz_trainer.participation.participant import Participant
        from segviz_trainer.participation.rounds import RoundLoop

        waiting = process.waiting(poll_seconds)
        with process.stop.interrupting():
            control = process.await_control(waiting)
            process.examine(control)
            data = load_training_data(process.site, control.spec, process.preparing)
        me = Participant(process.store, process.site, data, process.heartbeat, process.stop, process.pulse)
        return RoundLoop(me, waiting, Idle.at(process.site.spec)).run()

    run_site(work, **options)


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


@dataclass
class SiteProcess:
    """What both of a site's commands begin with: the stores, the state's lock, a lease."""

    site: Site
    store: Store
    """Waits for a store that is away."""
    opened: Store
    """The same, as it was opened."""
    heartbeat: Heartbeat
    stop: Stop
    pulse: Pulse

    def waiting(self, most_seconds: float = MOST_SECONDS) -> Waiting:
        """For what others write: controls, and what the aggregator makes of the rounds."""
        alarm = alarm_of(self.opened, (keys.GLOBAL, keys.CONTROLS), keys.is_news, self.stop)
        return Waiting(Pace(most_seconds), self.stop, alarm)

    def await_control(self, waiting: Waiting) -> Control:
        while (control := newest_control(self.store)) is None:
            waiting.pause()
        waiting.moved()
        return control

    def examine(self, control: Control) -> None:
        from segviz_trainer.participation.preflight import examine

        self.heartbeat.beat(Phase.PREPARING, message="preflight")
        examine(self.store, self.site, control, self.heartbeat.lease)

    def preparing(self, done: int, cases: int, case: str) -> None:
        # Not which: a case's name may be a patient's.
        self.heartbeat.beat(Phase.PREPARING, step=done, steps=cases)


def run_site(
    work: Callable[[SiteProcess], Exit],
    store: str,
    prefix: str,
    stop_on_stdin_eof: bool,
    alias: str,
    site_spec: Path,
    data_root: Path,
    state: Path,
    home: Path | None,
) -> None:
    """Begin, work, and end with an exit code."""
    stop = Stop(watch_stdin=stop_on_stdin_eof)
    namespace, name = keys.federation_of(prefix)
    logs.configure("trainer", f"{namespace}/{name}", alias)

    def begin_and_work() -> Exit:
        with stop.interrupting():
            registry = CollectorRegistry()
            opened = open_store(store).scoped(prefix)
            raw = MeasuredStore(opened, StoreMetrics(registry))
            patient = PatientStore(raw, PATIENCE_SECONDS)
            site = Site(alias, read_site_spec(site_spec), data_root, state, home, prefix)
            held = lock(state, stop, "an earlier process")
            heartbeat = Heartbeat(raw, alias, take_lease(patient, alias))
        pulse = Pulse()
        PulseCollector(pulse, (namespace, name, alias), registry)
        serve_metrics(registry)
        with held:
            try:
                return work(SiteProcess(site, patient, opened, heartbeat, stop, pulse))
            except Refusal as error:
                # Also told in the bucket, where people look.
                heartbeat.beat(Phase.FAILED, message=tell(error))
                raise

    def tell(error: Refusal) -> str:
        return outside(error, (data_root, state))

    sys.exit(exit_code_of(begin_and_work, tell))


def exit_code_of(work: Callable[[], Exit], tell: Callable[[Refusal], str] = str) -> Exit:
    """`tell` says what of a refusal others may read."""
    try:
        return work()
    except Stopped:
        return Exit.STOPPED
    except Superseded as error:
        log.warning("%s; stopping", error)
        return Exit.SUPERSEDED
    except Refusal as error:
        logs.say_why(log, str(error), tell(error))
        return Exit.REFUSED
    except StoreError as error:
        logs.say_why(log, f"the store: {type(error).__name__}: {error}")
        return Exit.RETRY


def read_site_spec(path: Path) -> SiteSpec:
    return msgspec.json.decode(path.read_bytes(), type=SiteSpec)


if __name__ == "__main__":
    logs.configure("trainer")
    main()
