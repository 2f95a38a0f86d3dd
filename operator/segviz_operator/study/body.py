"""A study on one machine: its rows one after the other, then the report.

A row is an ordinary local run in a folder of its own, so the same command goes on in the row that was
interrupted and only looks at those that are complete.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stop
from segviz_operator.local.body import run_locally
from segviz_operator.local.ending import RunExit
from segviz_operator.local.files import ManifestFiles
from segviz_operator.local.programs import Programs
from segviz_operator.local.volumes import Volumes
from segviz_operator.local.wishes import Request
from segviz_operator.manifests.manifest import Study
from segviz_operator.study.folder import StudyFolder
from segviz_operator.study.kept import code_digest
from segviz_operator.study.rows import Row
from segviz_operator.study.view import StudyView


@dataclass(frozen=True)
class StudyRequest:
    """What was asked for on the command line."""

    study: Study
    rows: tuple[Row, ...]
    """All of the study's."""
    chosen: tuple[Row, ...]
    """Those to run."""
    volumes: Volumes
    poll_seconds: float


def run_study(
    request: StudyRequest,
    folder: StudyFolder,
    stop: Stop,
    view: StudyView,
    programs: Programs | None = None,
) -> RunExit:
    """Run every chosen row; a row that fails does not keep the others from running.

    Raises:
        Refusal: a row cannot begin, or go on.
    """
    aliases = {alias for row in request.rows for alias in row.accepted.everyone}
    request.volumes.check_aliases(aliases)
    for row in request.rows:  # all, before the first one takes an hour
        request.volumes.of(row.accepted.everyone).roots(row.accepted)
    code = code_digest()
    kept = {row.title for row in request.rows if folder.shelf.holds(row, code)}
    worst = RunExit.COMPLETE
    for row in request.chosen:
        if row.title in kept:
            view.kept(row, folder.shelf.file(row))
            folder.write_index(request.study, request.rows, request.volumes)
            continue
        end = _run_row(request, row, folder, stop, view, programs, code)
        folder.write_index(request.study, request.rows, request.volumes)
        if end is RunExit.INTERRUPTED:
            return end
        worst = max(worst, end)
    return worst


def _run_row(
    request: StudyRequest,
    row: Row,
    folder: StudyFolder,
    stop: Stop,
    view: StudyView,
    programs: Programs | None,
    code: str,
) -> RunExit:
    manifests = folder.prepare(row, row.sites)
    if row.fold is not None:
        folder.check_code(row, code)
    run = Request(
        files=ManifestFiles((manifests,)),
        volumes=request.volumes.of(row.accepted.everyone),
        store=None,
        poll_seconds=request.poll_seconds,
    )
    try:
        end = run_locally(run, folder.workdir(row), stop, view.row(row), programs)
    except Refusal as refusal:
        raise Refusal(
            f"row {row.title}: {refusal}\nWhere the study's manifest has changed, choose another --workdir."
        ) from refusal
    view.ended(row, end)
    if end is RunExit.COMPLETE:
        folder.keep(row, code)
    return end


def write_study_report(folder: StudyFolder, options: Sequence[str] = ()) -> int:
    """The trainer's work: it has the statistics, and reads the images for the pictures."""
    words = (sys.executable, "-m", "segviz_trainer", "study-report", "--study", str(folder.index), *options)
    return subprocess.run(words, check=False).returncode
