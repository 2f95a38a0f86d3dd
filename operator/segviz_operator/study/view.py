"""What a person sees while a study runs: how far its rows are, and under them the one that runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segviz_operator.local.ending import RunExit
from segviz_operator.progress.durations import duration
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.status import FederationStatus
from segviz_operator.study.rows import Row
from segviz_operator.terminal.live import LogView, View
from segviz_operator.terminal.screen import render_status

WAITING, RUNNING = "waiting", "running"
_ENDS = {RunExit.COMPLETE: "complete", RunExit.FAILED: "failed", RunExit.INTERRUPTED: "interrupted"}
_STYLES = {"complete": "green", "failed": "red", "interrupted": "yellow", RUNNING: "cyan"}
_EARLIEST_SHARE = 0.02


@dataclass
class Progress:
    """How far the rows are, and what the rest will take at the speed so far."""

    rows: Sequence[Row]
    clock: Callable[[], float] = time.monotonic
    states: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """This process's, by row."""
    _trained: float = 0.0
    """Epochs that this process has seen trained in rows that have ended."""
    _begun: float = 0.0
    _first_share: float | None = None
    _share: float = 0.0
    _running: Row | None = None

    def begin(self, row: Row) -> None:
        self.states[row.title], self._running = RUNNING, row
        self._begun, self._first_share, self._share = self.clock(), None, 0.0

    def advance(self, share: float) -> None:
        """`share` of the row's rounds is done."""
        if self._first_share is None:
            self._first_share = share  # what an earlier process did took none of this one's time
        self._share = share

    def end(self, row: Row, state: str) -> None:
        if state == _ENDS[RunExit.COMPLETE]:
            self.advance(1.0)
        self._trained += self._trained_now()
        self.states[row.title], self._running = state, None
        self.seconds[row.title] = self.clock() - self._begun

    def skip(self, row: Row) -> None:
        self.states[row.title] = _ENDS[RunExit.COMPLETE]

    def eta_seconds(self) -> float | None:
        """None as long as there is no speed to go by."""
        trained = self._trained + self._trained_now()
        spent = sum(self.seconds.values()) + (self.clock() - self._begun if self._running else 0.0)
        ahead: float = sum(row.epochs for row in self.rows if row.title not in self.states)
        if self._running is not None:
            ahead += self._running.epochs * (1 - self._share)
        if trained < _EARLIEST_SHARE * self.rows[0].epochs:
            return None
        return spent / trained * ahead

    def _trained_now(self) -> float:
        if self._running is None or self._first_share is None:
            return 0.0
        return self._running.epochs * (self._share - self._first_share)


class StudyView:
    """Draws on a terminal; writes lines elsewhere."""

    def __init__(self, console: Console, rows: Sequence[Row]) -> None:
        self._console = console
        self._progress = Progress(rows)
        # Its own Live: the rows' views come and go.
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )

    def row(self, row: Row) -> View:
        self._progress.begin(row)
        if self._live is not None:
            self._live.start()
            return _LiveRow(self._live, self._progress)
        self._console.print(self._headline(row), highlight=False)
        return _LogRow(self._console, self._progress)

    def ended(self, row: Row, end: RunExit) -> None:
        state = _ENDS[end]
        self._progress.end(row, state)
        if self._live is None:
            took = duration(self._progress.seconds[row.title])
            self._console.print(f"{row.title}: {state} after {took}", highlight=False)

    def kept(self, row: Row, file: Path) -> None:
        """Its scores are there; it does not run."""
        self._progress.skip(row)
        self._console.print(f"{row.title}: kept in {file}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._console.print(render_rows(self._progress))

    def _headline(self, row: Row) -> str:
        rows, eta = self._progress.rows, self._progress.eta_seconds()
        number = 1 + [each.title for each in rows].index(row.title)
        rest = f", ETA of the study {duration(eta)}" if eta is not None else ""
        return f"== row {number}/{len(rows)}: {row.title}{rest}"


class _LiveRow:
    def __init__(self, live: Live, progress: Progress) -> None:
        self._live = live
        self._progress = progress

    def show(self, status: FederationStatus, records: FederationRecords) -> None:
        self._progress.advance(status.share)
        self._live.update(Group(render_rows(self._progress), "", render_status(status)), refresh=True)

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        pass


class _LogRow(LogView):
    def __init__(self, console: Console, progress: Progress) -> None:
        super().__init__(console)
        self._progress = progress

    def show(self, status: FederationStatus, records: FederationRecords) -> None:
        self._progress.advance(status.share)
        super().show(status, records)


def render_rows(progress: Progress) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    eta = progress.eta_seconds()
    done = sum(state == _ENDS[RunExit.COMPLETE] for state in progress.states.values())
    table.add_column(f"row ({done}/{len(progress.rows)})", no_wrap=True, overflow="ellipsis")
    table.add_column("state", min_width=11, no_wrap=True)
    table.add_column("took", justify="right", min_width=6, no_wrap=True)
    table.add_column(f"ETA {duration(eta)}" if eta else "", no_wrap=True)
    for row in progress.rows:
        state = progress.states.get(row.title, WAITING)
        took = progress.seconds.get(row.title)
        table.add_row(row.title, Text(state, style=_STYLES.get(state, "dim")), duration(took), "")
    return table
