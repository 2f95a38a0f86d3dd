"""`segviz study`."""

import sys
from pathlib import Path
from typing import Any

import click

from segviz_exchange.process.console import open_console
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stop
from segviz_operator.local.ending import RunExit
from segviz_operator.local.volumes import parse_volumes
from segviz_operator.manifests.manifest import Manifests, Study, load
from segviz_operator.manifests.problem import nearest
from segviz_operator.study.body import StudyRequest, run_study, write_study_report
from segviz_operator.study.folder import StudyFolder
from segviz_operator.study.rows import Row, expand
from segviz_operator.study.view import StudyView

_EXAMPLES = """\b
Examples:
  segviz study examples/phantom --data phantom/
  segviz study examples/hippocampus --data DIR --row Local --row FedAvg
  segviz study examples/hippocampus --data DIR --seed 1 --workdir runs/seed-1
  segviz study folds/ --data DIR --scores kept/
"""


@click.command(epilog=_EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--workdir",
    type=click.Path(path_type=Path),
    help="Folder for everything in this study.  [default: runs/study-<study's name>]",
)
@click.option(
    "--data",
    multiple=True,
    metavar="[ALIAS=]FOLDER",
    help="Folder with the images of a site, instead of its PersistentVolumeClaim; without ALIAS, of every "
    "site. May be repeated.",
)
@click.option("--row", "names", multiple=True, metavar="NAME", help="Run only this row. May be repeated.")
@click.option(
    "--scores",
    type=click.Path(path_type=Path),
    help="Folder in which the scores of finished folds are kept, where cases rotate; a fold whose scores are "
    "there does not run again.  [default: scores/ in the working folder]",
)
@click.option("--seed", type=click.IntRange(min=0), help="Use this seed in every row.")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of every row, for a quick look.")
@click.option("--report-only", is_flag=True, help="Run nothing; write the report from what has run.")
@click.option(
    "--poll-seconds",
    default=0.5,
    show_default=True,
    type=click.FloatRange(min=0.05, max=3600),
    help="The longest that a process waits before it looks for changes again.",
)
def study(
    files: tuple[Path, ...],
    workdir: Path | None,
    data: tuple[str, ...],
    names: tuple[str, ...],
    scores: Path | None,
    seed: int | None,
    rounds: int | None,
    report_only: bool,
    poll_seconds: float,
) -> None:
    """Compare methods: run every row of a study on the same sites, splits and seed, and write the report.

    FILE is a YAML file, or a folder of them, with one SegVizStudy, the SegVizFederation that its rows start
    from, and its SegVizSites. After Ctrl-C, a crash or a power cut, run the same command again to continue.

    \b
    Exit codes: 0 complete, 1 a row has failed, 2 a mistake in the input,
    130 interrupted.
    """
    stop = Stop()
    manifests = load(files)
    wanted = _only(manifests, files)
    common: dict[str, Any] = {"seed": seed, "rounds": rounds}
    rows = expand(wanted, manifests, {name: value for name, value in common.items() if value is not None})
    volumes = parse_volumes(data)
    folder = StudyFolder(workdir or Path("runs") / f"study-{wanted.name}", scores)
    request = StudyRequest(wanted, rows, _chosen(rows, names), volumes, poll_seconds)
    console = open_console()
    if report_only:
        folder.write_index(wanted, rows, volumes)
        sys.exit(write_study_report(folder))
    view = StudyView(console, request.chosen)
    try:
        end = run_study(request, folder, stop, view)
    finally:
        view.close()
    if end is RunExit.INTERRUPTED:
        console.print("Stopped; nothing is lost. Run the same command again to continue.")
        sys.exit(end)
    sys.exit(max(end, write_study_report(folder)))


def _only(manifests: Manifests, files: tuple[Path, ...]) -> Study:
    listed = ", ".join(map(str, files))
    if not manifests.studies:
        raise Refusal(f"{listed}: no SegVizStudy found. Name the file that holds it, too.")
    if len(manifests.studies) > 1:
        names = ", ".join(each.key for each in manifests.studies)
        raise Refusal(f"{listed}: {len(manifests.studies)} studies found ({names}). Run one at a time.")
    return manifests.studies[0]


def _chosen(rows: tuple[Row, ...], names: tuple[str, ...]) -> tuple[Row, ...]:
    known = list(dict.fromkeys(row.name for row in rows))
    for name in names:
        if name not in known:
            guess = nearest(name, known)
            hint = f"Did you mean {guess}?" if guess else f"The rows are {', '.join(known)}."
            raise Refusal(f"--row {name}: there is no such row. {hint}")
    return tuple(row for row in rows if not names or row.name in names)
