"""One process for each device of a Pod, started and watched by torch's elastic launcher.

None is started again here: if one ends, so do the others, and whoever started this process starts it again.
"""

import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from uuid import uuid4

import pynvml

from segviz_exchange.process.exits import Exit
from segviz_exchange.process.stopping import Stop, Stopped

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5


def own_rank() -> int | None:
    """This process's, where the launcher has started it."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else None


def devices_here() -> int:
    """GPUs of a Pod, which were asked for to be used; 1 where there are none, and outside a cluster."""
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        return 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return max(1, len([each for each in visible.split(",") if each]))
    # Not by torch, which takes seconds to import, in which nothing could stop this process.
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return max(1, int(pynvml.nvmlDeviceGetCount()))
    return 1


def launch(ranks: int, *, watch_stdin: bool) -> Exit:
    """Run this very command line once more for each rank, until all have ended.

    Returns:
        What the first rank, which leads, has ended with.
    """
    try:
        with Stop(watch_stdin=watch_stdin).interrupting():
            return _launch(ranks)
    except Stopped:
        return Exit.STOPPED


def _launch(ranks: int) -> Exit:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    log.info("training on %d devices, a process each", ranks)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # not the Pod's name, which a policy of the network may not let it ask for
        max_restarts=0,
        monitor_interval=_LOOK_SECONDS,
    )
    words = ["-m", "segviz_trainer", *sys.argv[1:]]
    try:
        elastic_launch(config, sys.executable)(*words)
    except SignalException:
        return Exit.STOPPED
    except ChildFailedError as error:
        return _ended_with(error.failures[0].exitcode if 0 in error.failures else -1)
    return Exit.DONE


def _ended_with(code: int) -> Exit:
    """A rank that was killed, or whose leader was not the one to fail, is started again."""
    return Exit(code) if code in set(Exit) else Exit.RETRY


def end_with_parent(by: signal.Signals) -> None:
    """End with the launcher, even where it was killed and could tell nobody."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        signal.pthread_kill(threading.main_thread().ident or 0, by)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def leave_stops_to_the_leader() -> None:
    """It finishes its step when it is asked to stop, for which it needs the others."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
