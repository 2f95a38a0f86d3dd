"""`segviz run MANIFEST --workdir WORKDIR --data DATA`, with the stand-in as trainer and little patience."""

import sys
from pathlib import Path

from rich.console import Console

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stop
from segviz_operator.local.body import run_locally
from segviz_operator.local.ending import print_end
from segviz_operator.local.files import ManifestFiles
from segviz_operator.local.programs import Programs
from segviz_operator.local.volumes import Volumes
from segviz_operator.local.wishes import Request
from segviz_operator.local.workdir import WorkDir
from segviz_operator.plan.decide import Backoff
from segviz_operator.terminal.live import open_view

STAND_IN = Programs(trainer=(sys.executable, str(Path(__file__).with_name("stand_in.py"))))
POLL_SECONDS = 0.05


def main(manifest: Path, workdir: Path, data: Path) -> int:
    request = Request(ManifestFiles((manifest,)), Volumes(data, {}), None, POLL_SECONDS)
    console, folder = Console(), WorkDir(workdir)
    backoff = Backoff(first_seconds=0.1, most_seconds=0.2)
    try:
        end = run_locally(request, folder, Stop(), open_view(console), STAND_IN, backoff)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    print_end(end, folder, console)
    return int(end)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
