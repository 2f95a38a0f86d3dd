"""The trainer's processes, as a Job's container or the local body starts them.

torch and MONAI take seconds to import, and a process must be able to stop from its first moment on: so the
commands import them inside, once signals and stdin are watched.
"""

import fcntl
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from segviz_exchange.errors import Refusal
from segviz_exchange.exits import Exit
from segviz_exchange.patient import PatientStore
from segviz_exchange.records import Control, Phase, newest_control
from segviz_exchange.spec import SiteSpec
from segviz_exchange.stopping import Stop, Stopped
from segviz_exchange.store import Store, open_store
from segviz_trainer.heartbeat import Heartbeat, Superseded, take_lease
from segviz_trainer.site import Site

log = logging.getLogger("segviz_trainer")

PATIENCE_SECONDS = 15 * 60
"""How long a process waits for a store that does not answer before it gives up and is started again."""


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--store", required=True, help="Folder or s3://HOST/BUCKET."),
        click.option("--prefix", required=True, help="The federation's prefix in the store."),
        click.option("--stop-on-stdin-eof", is_flag=True, help="Stop when stdin ends: the parent is gone."),
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
    ):
        command = option(command)
    return command


@click.group()
def main() -> None:
    """What runs at a site."""


@main.command()
@store_options
@site_options
@click.option("--poll-seconds", default=1.0, show_default=True)
def participate(
    store: str,
    prefix: str,
    stop_on_stdin_eof: bool,
    alias: str,
    site_spec: Path,
    data_root: Path,
    state: Path,
    poll_seconds: float,
) -> None:
    """Train for a federation until it is over."""
    stop = Stop(watch_stdin=stop_on_stdin_eof)
    site = Site(alias, read_site_spec(site_spec), data_root, state)
    raw = open_store(store).scoped(prefix)
    patient = PatientStore(raw, PATIENCE_SECONDS)

    def work() -> Exit:
        with stop.interrupting():
            from segviz_trainer.dataset import load_training_data
            from segviz_trainer.participant import Participant
            from segviz_trainer.participate import RoundLoop

            lock(state)
            heartbeat = Heartbeat(raw, alias, take_lease(patient, alias))
            control = await_control(patient, stop, poll_seconds)
            data = load_training_data(site, control.spec, preparing(heartbeat))
        me = Participant(patient, site, data, heartbeat, stop, control)
        return RoundLoop(me, poll_seconds).run()

    finish(work, raw, alias)


@main.command()
@store_options
@click.option("--scratch", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path))
def export(store: str, prefix: str, stop_on_stdin_eof: bool, scratch: Path, output: Path) -> None:
    """Put a finished federation's model together."""
    stop = Stop(watch_stdin=stop_on_stdin_eof)
    patient = PatientStore(open_store(store).scoped(prefix), PATIENCE_SECONDS)

    def work() -> Exit:
        with stop.interrupting():
            from segviz_trainer.export import Exporter

            Exporter(patient, scratch, output).run()
        return Exit.DONE

    finish(work)


@main.command()
@store_options
@site_options
def evaluate(
    store: str,
    prefix: str,
    stop_on_stdin_eof: bool,
    alias: str,
    site_spec: Path,
    data_root: Path,
    state: Path,
) -> None:
    """Score the exported models on an external set."""
    stop = Stop(watch_stdin=stop_on_stdin_eof)
    site = Site(alias, read_site_spec(site_spec), data_root, state)
    raw = open_store(store).scoped(prefix)
    patient = PatientStore(raw, PATIENCE_SECONDS)

    def work() -> Exit:
        with stop.interrupting():
            from segviz_trainer.dataset import load_evaluation_data
            from segviz_trainer.evaluate import Evaluator

            lock(state)
            heartbeat = Heartbeat(raw, alias, take_lease(patient, alias))
            control = await_control(patient, stop, 1.0)
            cases = load_evaluation_data(site, control.spec, preparing(heartbeat))
            Evaluator(patient, site, cases, heartbeat).run()
        return Exit.DONE

    finish(work, raw, alias)


def read_site_spec(path: Path) -> SiteSpec:
    return msgspec.json.decode(path.read_bytes(), type=SiteSpec)


def lock(state: Path) -> None:
    """Wait until an earlier self has let go of the folder; the lock ends with the process."""
    state.mkdir(parents=True, exist_ok=True)
    file = state.joinpath("lock").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    _held.append(file)


_held: list[IO[str]] = []
"""Keeps the lock's file open as long as the process lives."""


def await_control(store: Store, stop: Stop, poll_seconds: float) -> Control:
    while (control := newest_control(store)) is None:
        stop.wait(poll_seconds)
    return control


def preparing(heartbeat: Heartbeat) -> Callable[[int, int, str], None]:
    def report(done: int, cases: int, case: str) -> None:
        heartbeat.beat(Phase.PREPARING, step=done, steps=cases, message=case)

    return report


def finish(work: Callable[[], Exit], store: Store | None = None, alias: str | None = None) -> None:
    """Turn how the work ended into an exit code; a refusal is also told in the bucket, where people look."""
    try:
        code = work()
    except Stopped:
        code = Exit.STOPPED
    except Superseded as error:
        log.warning("%s; stopping", error)
        code = Exit.SUPERSEDED
    except Refusal as error:
        log.error("%s", error)
        if store is not None and alias is not None:
            Heartbeat(store, alias, lease=0).beat(Phase.FAILED, message=str(error))
        code = Exit.REFUSED
    sys.exit(code)


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    main()
