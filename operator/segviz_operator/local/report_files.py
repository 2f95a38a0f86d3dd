"""The report's files in the working folder, and its page, which the trainer writes: it can read images."""

import os
import subprocess
import sys

import msgspec

from segviz_exchange.contract.run import RunHere, SiteHere
from segviz_exchange.process.writing import write_whole
from segviz_operator.local.identity import Identity
from segviz_operator.local.signing import environment_of_readers
from segviz_operator.local.wishes import Wishes
from segviz_operator.local.workdir import WorkDir
from segviz_operator.progress.report import Report, as_csv


def write_report(report: Report, workdir: WorkDir) -> None:
    write_whole(workdir.report_json, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    write_whole(workdir.report_csv, as_csv(report).encode())


def write_index(identity: Identity, wishes: Wishes, workdir: WorkDir) -> None:
    """Where the page finds records and images; remote sites' are elsewhere."""
    places = [place for alias in sorted(wishes.accepted.everyone) if (place := wishes.place(alias))]
    index = RunHere(
        name=identity.key,
        store=identity.store if "://" in identity.store else os.path.relpath(identity.store, workdir.root),
        prefix=identity.prefix,
        sites={
            place.alias: SiteHere(
                spec=place.spec,
                data_root=str(place.data_root),
                state=str(workdir.state(place.alias).relative_to(workdir.root)),
            )
            for place in places
        },
    )
    write_whole(workdir.run_index, msgspec.json.format(msgspec.json.encode(index)) + b"\n")


def write_page(workdir: WorkDir) -> int:
    """The exit code of whoever writes it; what it says goes to this process's output."""
    words = (sys.executable, "-m", "segviz_trainer", "report", "--run", str(workdir.run_index))
    identity = workdir.identity()
    keys = {} if identity is None else environment_of_readers(identity)
    return subprocess.run(words, check=False, env={**os.environ, **keys}).returncode
