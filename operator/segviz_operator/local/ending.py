"""How a run ends, and what a person is told then."""

from enum import IntEnum

from rich.console import Console

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.store import StoreError
from segviz_operator.local.report_files import write_report
from segviz_operator.local.workdir import WorkDir
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.report import build_report
from segviz_operator.terminal.tables import print_report


class RunExit(IntEnum):
    COMPLETE = 0
    FAILED = 1
    REFUSED = 2
    INTERRUPTED = 130


def print_end(exit_: RunExit, workdir: WorkDir, console: Console) -> bool:
    """The tables at the end, or how to go on; whether there is a result."""
    identity = workdir.identity()
    assert identity is not None, "a run that was not refused has remembered itself"
    if exit_ is RunExit.INTERRUPTED:
        console.print("Stopped; nothing is lost. Run the same command again to continue.", highlight=False)
        return False
    try:
        records = Observer(identity.open_store()).read()
    except StoreError as error:
        raise Refusal(
            f"{identity.store}: {type(error).__name__}: {error}. The run is over and its results are there: "
            "run the same command again for the report."
        ) from error
    report = build_report(identity.name, records, workdir.models)
    # Also where the run has failed after the final model: a lost external set takes no other result along.
    if report is not None:
        write_report(report, workdir)
        print_report(report, console)
        for file in (workdir.report_json, workdir.report_csv):
            console.print(f"  report {file}", soft_wrap=True, highlight=False)
    if exit_ is RunExit.FAILED:
        said = f"Logs: {workdir.logs}. The end of trainer-SITE.log says why a site was left out."
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    return report is not None
