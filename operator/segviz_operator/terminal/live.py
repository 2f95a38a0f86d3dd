"""What a person sees while a federation runs: a picture on a terminal, lines in a log."""

from typing import Protocol

from rich.console import Console
from rich.live import Live

from segviz_operator.progress.dice import dice_by_round
from segviz_operator.progress.durations import duration
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.status import FederationStatus, SiteStatus
from segviz_operator.terminal.screen import dice_text, render_status


class View(Protocol):
    def show(self, status: FederationStatus, records: FederationRecords) -> None:
        """The newest status; called about once a second."""

    def say(self, text: str) -> None:
        """Something that happened, once."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def open_view(console: Console) -> View:
    return LiveView(console) if console.is_terminal else LogView(console)


class LiveView:
    """One picture that is drawn over, with what happened above it."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def show(self, status: FederationStatus, records: FederationRecords) -> None:
        self._live.start()  # does nothing from the second time on
        self._live.update(render_status(status), refresh=True)

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._live.stop()


class LogView:
    """A line whenever something changes, without control codes: for CI, nohup and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._round: int | None = None
        self._scored: set[int] = set()
        self._sites: dict[str, str] = {}

    def show(self, status: FederationStatus, records: FederationRecords) -> None:
        self._show_sites(status)
        if status.round is not None and status.round != self._round:
            eta = f", ETA {duration(status.eta_seconds)}" if status.eta_seconds is not None else ""
            self.say(f"round {status.round}/{status.rounds} committed{eta}")
            self._round = status.round
        for round_, dice in dice_by_round(records).items():
            if round_ not in self._scored:
                self.say(f"round {round_}/{status.rounds}: mean validation Dice {dice:.3f}")
                self._scored.add(round_)
        if status.phase != self._phase:
            self.say(f"{status.name}: {status.phase}: {status.reason}")
            self._phase = status.phase

    def _show_sites(self, status: FederationStatus) -> None:
        for site in status.sites:
            # Waiting and scoring alternate with training in every round: who reads a log wants the rounds.
            phase = _steady_phase(site)
            if self._sites.get(site.alias) != phase:
                self._sites[site.alias] = phase
                self.say(_site_line(site, status))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        pass


def _steady_phase(site: SiteStatus) -> str:
    return "Training" if site.phase in ("Waiting", "Scoring") and not site.external else site.phase


def _site_line(site: SiteStatus, status: FederationStatus) -> str:
    round_ = f" round {site.round}/{status.rounds}" if site.round is not None else ""
    dice = f" ({dice_text(site)})".replace("\n", ", ") if site.dice else ""
    message = f": {site.message}" if site.message else ""
    return f"{site.alias}: {site.phase}{round_}{dice}{message}"
