"""Log lines: for people on a terminal, one JSON object each in a Pod; every one says whose it is.

SEGVIZ_LOG_FORMAT=json chooses. Federation, site and round are told once and are then on every line, whoever
writes it: our own modules, a library, or the interpreter that reports what nobody caught.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType

from pythonjsonlogger.json import JsonFormatter

from segviz_exchange.process.words import plain

FORMAT = "SEGVIZ_LOG_FORMAT"
TERMINATION_LOG = "/dev/termination-log"
ENDING = "SEGVIZ_ENDING_FILE"
"""Environment: where a process that is no Pod's says why it ends."""
_MOST_BYTES = 4096
"""What kubelet reads."""


class _Context(logging.Filter):
    """Puts on each record what the process knows about itself."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self.component = component
        self.federation: str | None = None
        """namespace/name"""
        self.site: str | None = None
        self.round: int | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        # What a line says of itself counts: the operator speaks of many federations.
        known = {
            "component": self.component,
            "federation": _spoken_of.get() or self.federation,
            "site": self.site,
        }
        for name, value in {**known, "round": self.round}.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


_spoken_of: ContextVar[str | None] = ContextVar("federation", default=None)


@contextmanager
def speaking_of(federation: str) -> Iterator[None]:
    """For a process that works for many: whose the lines of this stretch, in this thread, are."""
    token = _spoken_of.set(federation)
    try:
        yield
    finally:
        _spoken_of.reset(token)


_context = _Context("segviz")
"""This process's: a log is the process's too."""


def enter_round(round_: int | None) -> None:
    """From here on the lines of this process, of all its threads, are about that round."""
    _context.round = round_


def configure(
    component: str, federation: str | None = None, site: str | None = None, *, json: bool = False
) -> None:
    """Send everything to stderr, in UTC; the last call counts. `json` overrides the environment."""
    json = json or as_json()
    _context.component, _context.federation, _context.site, _context.round = component, federation, site, None
    handler = logging.StreamHandler()
    handler.addFilter(_context)
    handler.setFormatter(_json() if json else HumanFormatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught if json else _print_uncaught


def as_json() -> bool:
    return os.environ.get(FORMAT, "").lower() == "json"


class HumanFormatter(logging.Formatter):
    """`2026-11-24 21:42:48,802 WARNING [radiology/abdomen basel round 3] …`"""

    converter = time.gmtime  # type: ignore[assignment]

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        federation, site, round_ = (getattr(record, name, None) for name in ("federation", "site", "round"))
        words = [federation, site, None if round_ is None else f"round {round_}"]
        where = " ".join(word for word in words if word)
        return f"{record.asctime} {record.levelname} {f'[{where}] ' if where else ''}{record.message}"


def _json() -> logging.Formatter:
    # An absent site or round is null: who queries a log need not know which lines have it.
    return JsonFormatter(
        "{message}{component}{federation}{site}{round}{levelname}{name}",
        style="{",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp=True,
    )


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger("segviz").critical("%s: %s", kind.__name__, error, exc_info=(kind, error, traceback))
    tell_outside(_outside(kind, error))


def _print_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, traceback)
    tell_outside(_outside(kind, error))


def _outside(kind: type[BaseException], error: BaseException) -> str:
    # What nobody foresaw may name any file, and a site's files may be called after patients.
    return kind.__name__ if _context.site else f"{kind.__name__}: {error}"


def say_why(log: logging.Logger, message: str, outside: str | None = None) -> None:
    """The error that a process ends with: in its log, and where others see it, there as `outside`."""
    log.error("%s", message)
    tell_outside(message if outside is None else outside)


def tell_outside(message: str) -> None:
    """Say why this process ends where its Pod's status or its parent shows it, and Events repeat it."""
    named = os.environ.get(ENDING)
    path = Path(named or TERMINATION_LOG)
    if not named and not (as_json() and path.exists()):
        return
    try:
        path.write_bytes(plain(message, _MOST_BYTES).encode()[:_MOST_BYTES])
    except OSError as error:
        logging.getLogger("segviz").warning("%s: %s", path, error.strerror)
