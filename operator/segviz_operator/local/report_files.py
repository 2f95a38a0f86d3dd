"""The report's files in the working folder."""

import msgspec

from segviz_operator.local.workdir import WorkDir
from segviz_operator.machine.writing import write_whole
from segviz_operator.progress.report import Report, as_csv


def write_report(report: Report, workdir: WorkDir) -> None:
    write_whole(workdir.report_json, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    write_whole(workdir.report_csv, as_csv(report).encode())
