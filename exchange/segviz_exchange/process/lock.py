"""A folder that one process at a time uses."""

import fcntl
import logging
from pathlib import Path
from typing import IO

from segviz_exchange.process.stopping import Stop, Stopped

_LOOK_SECONDS = 0.2

log = logging.getLogger(__name__)


def lock(folder: Path, stop: Stop, other: str) -> IO[str]:
    """Keep a folder to this process; an earlier one that still uses it is waited for.

    Args:
        other: who that would be, for the log.

    Returns:
        The file that holds the lock until it is closed.

    Raises:
        Stopped: a stop was requested meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("w", encoding="utf-8")
    if not _took(file):
        log.info("waiting for %s, which still uses %s", other, folder)
        # Tried again and again: a signal just before a blocking flock would not be heard until it ends.
        while not _took(file):
            if stop.wait(_LOOK_SECONDS):
                file.close()
                raise Stopped
    return file


def _took(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
