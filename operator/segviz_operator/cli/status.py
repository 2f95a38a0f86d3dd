"""What `segviz status` prints."""

import msgspec
from rich.console import Console

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.words import for_json
from segviz_exchange.stores.store import StoreError
from segviz_operator.local.workdir import WorkDir
from segviz_operator.plan.phase import FederationPhase
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.report import Report, build_report
from segviz_operator.progress.status import FederationStatus, build_status
from segviz_operator.terminal.screen import render_status
from segviz_operator.terminal.tables import print_report


class Printed(msgspec.Struct, frozen=True, rename="camel"):
    """`segviz status --json`."""

    running: bool
    """Whether a `segviz run` is at work in the folder."""
    status: FederationStatus
    report: Report | None
    """None until there is a final model."""


def read_status(workdir: WorkDir) -> Printed:
    """Raises Refusal where no run has begun, or its store cannot be read."""
    identity = workdir.identity()
    if identity is None:
        raise Refusal(f"{workdir.root}: no federation has run here. Give the --workdir of a `segviz run`.")
    try:
        records = Observer(identity.open_store()).read()
    except StoreError as error:
        raise Refusal(f"store {identity.store}: {type(error).__name__}: {error}.") from error
    return Printed(
        running=workdir.is_running(),
        status=build_status(identity.name, records, paused=identity.suspended_sites),
        report=build_report(identity.name, records, workdir.models),
    )


def print_status(workdir: WorkDir, as_json: bool, console: Console, pattern: str | None = None) -> None:
    printed = read_status(workdir)
    if as_json:
        console.print(
            for_json(msgspec.json.format(msgspec.json.encode(printed)).decode()),
            markup=False,
            soft_wrap=True,
        )
        return
    console.print(render_status(printed.status, pattern))
    if printed.running:
        return
    if printed.report is not None:
        print_report(printed.report, console)
    if printed.status.phase != FederationPhase.COMPLETE:
        console.print("Nothing runs here now. Run the same `segviz run` again to continue.", soft_wrap=True)
