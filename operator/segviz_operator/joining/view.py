"""What a person at a remote site sees: one line that moves, or lines in a log."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.status import Status

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import find, newest_control, newest_round
from segviz_exchange.contract.progress import Progress
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.store import Store, StoreError
from segviz_operator.joining.seat import Seat


class JoinView(Protocol):
    def show(self, store: Store, seat: Seat, held: Credentials) -> None:
        """How the site stands; called every few seconds. Raises StoreError."""

    def say(self, text: str) -> None:
        """Something that happened, once."""

    def away(self, error: StoreError) -> None:
        """The store did not answer."""


@contextmanager
def open_join_view(console: Console, alias: str) -> Iterator[JoinView]:
    if not console.is_terminal:
        yield LineView(console)
        return
    with console.status(f"{alias}: starting") as status:
        yield StatusView(console, status)


class LineView:
    """A line whenever the round, the phase or the store's state changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: tuple[object, ...] = ()
        self._away = False

    def show(self, store: Store, seat: Seat, held: Credentials) -> None:
        beat = find(store, keys.progress(seat.alias), Progress)
        self._away = False
        newest = newest_round(store)
        shown = (None if newest is None else newest.round, beat and beat.phase, beat and beat.round)
        if shown != self._shown:
            self._shown = shown
            self.say(line_of(store, seat, beat, newest.round if newest else None))

    def say(self, text: str) -> None:
        self._console.print(
            f"{datetime.now(UTC):%H:%M:%S} {text}", markup=False, highlight=False, soft_wrap=True
        )

    def away(self, error: StoreError) -> None:
        if not self._away:
            self.say(f"the store does not answer: {error}")
        self._away = True


class StatusView:
    """One line that is drawn over."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status

    def show(self, store: Store, seat: Seat, held: Credentials) -> None:
        beat = find(store, keys.progress(seat.alias), Progress)
        newest = newest_round(store)
        text = line_of(store, seat, beat, newest.round if newest else None)
        until = "" if held.expiration is None else f" [credentials until {held.expiration:%H:%M} UTC]"
        self._status.update(f"{text}{until}".replace("[", r"\["))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def away(self, error: StoreError) -> None:
        self._status.update("the store does not answer; still trying")


def line_of(store: Store, seat: Seat, beat: Progress | None, newest: int | None) -> str:
    control = newest_control(store)
    rounds = "?" if control is None else str(control.spec.rounds)
    parts = [f"{seat.alias}: {beat.phase if beat else 'Starting'}"]
    if beat is not None and beat.round is not None:
        parts.append(f"round {beat.round}/{rounds}")
    if beat is not None and beat.epoch is not None:
        parts.append(f"epoch {beat.epoch + 1}")
    if beat is not None and beat.step is not None and beat.steps:
        parts.append(f"{100 * beat.step // beat.steps} %")
    if beat is not None and beat.loss is not None:
        parts.append(f"loss {beat.loss:.3f}")
    if beat is not None and beat.message:
        parts.append(beat.message)
    if newest is not None:
        parts.append(f"newest global model: round {newest}")
    if control is not None and seat.alias not in control.active:
        member = control.members.get(seat.alias)
        left_out = f"left out: {member.excluded}" if member and member.excluded else "not a member yet"
        if seat.alias not in {each.alias for each in control.spec.evaluation.sites}:
            parts.append(left_out)
    return ", ".join(parts)
