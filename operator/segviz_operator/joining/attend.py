"""`segviz join`: one site outside the cluster, with nothing but a join file.

The trainer is the one that a Job runs, as a child process. Around it is what a cluster would do: renew its
credentials, start it again when it crashed, show how it stands.
"""

import sys
import time
from datetime import UTC, datetime

import msgspec

from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import Role
from segviz_exchange.contract.ledger import find, newest_control
from segviz_exchange.contract.records import Control, Exported, Variant
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.stopping import Stop
from segviz_exchange.process.writing import write_private
from segviz_exchange.stores.credentials import (
    encode_credentials,
)
from segviz_exchange.stores.s3_errors import Outdated
from segviz_exchange.stores.store import Denied, NotFound, Store, StoreError, Unavailable
from segviz_operator.access.handover import newest_remote
from segviz_operator.joining.seat import Seat, adopt_new_join_file, held_credentials
from segviz_operator.joining.view import JoinView
from segviz_operator.machine.processes import Processes, last_words
from segviz_operator.plan.command_line import (
    AS_A_CHILD,
    Records,
    command_line,
    module_of,
    proxy_environment,
    store_environment,
    threads_environment,
)
from segviz_operator.plan.decide import Backoff, CreateWorkload, Observed, attempt_after, wait_after
from segviz_operator.plan.workload import Workload, WorkloadRole, role_at
from segviz_operator.progress.observe import Observer

RENEW_SECONDS = 30.0
"""How often the site looks for its next credentials: far less than half the life of the shortest ones."""
_LOOK_SECONDS = 2.0
_BACKOFF = Backoff(first_seconds=5.0, most_seconds=300.0)

Program = tuple[str, ...]
TRAINER: Program = (sys.executable, "-m", module_of(WorkloadRole.TRAINER))


class Joining:
    """Keeps the site's trainer running until the federation is over for it."""

    def __init__(
        self,
        seat: Seat,
        view: JoinView,
        stop: Stop,
        program: Program = TRAINER,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self._seat = seat
        self._view = view
        self._stop = stop
        self._program = program
        self._renew_seconds = renew_seconds
        self._store: Store = seat.open_store()
        own = f"{keys.SITES}{seat.alias}/"
        self._observer = Observer(self._store, (keys.CONTROLS, own))
        grace = seat.site.spec.trainer.termination_grace_period_seconds
        self._processes = Processes(seat.state / "logs", grace)
        self._adopted = 0
        self._renewed_at = float("-inf")

    @property
    def role(self) -> WorkloadRole:
        return role_at(self._seat.site.spec)

    def run(self) -> int:
        """Raises Refusal: the credentials, the federation or the site do not fit."""
        self._begin()
        try:
            return self._attend()
        finally:
            self._processes.stop_all()

    def _begin(self) -> None:
        """Ask the store before anything else is started: a mistake is then told at once."""
        try:
            self._renew()
            control = newest_control(self._store)
        except (Outdated, Denied) as error:
            raise Refusal(_expired(self._seat, error)) from error
        except Unavailable as error:
            # A laptop may be started before its network: the trainer is patient, and so is this.
            self._view.say(f"the store does not answer yet: {error}")
            return
        except StoreError as error:
            # A bucket that is not there, or a record of a newer version: waiting would not mend it.
            raise Refusal(f"{self._seat.invitation.store}: {type(error).__name__}: {error}") from error
        if control is not None:
            _check_membership(self._seat, control)
            if said := _check_key(self._seat, control):
                self._view.say(said)

    def _attend(self) -> int:
        following, not_before = CreateWorkload(self.role, self._seat.alias, attempt=1), 0.0
        while not self._stop.requested:
            self._look_after_credentials()
            workload = next(iter(self._processes.observe()), None)
            if workload is not None and not workload.running:
                self._processes.stop_all()
                if (code := self._end_of(workload)) is not None:
                    return code
                following, wait = self.after(workload)
                not_before = time.monotonic() + wait
                self._view.say(f"the trainer ended: {self._why(workload)}. It starts again in {wait:g} s.")
            elif workload is None and time.monotonic() >= not_before and self._may_start():
                self._start(following)
            self._show()
            self._stop.wait(_LOOK_SECONDS)
        self._view.say("Stopped; nothing is lost. Run the same command again to continue.")
        return 130

    def after(self, ended: Workload) -> tuple[CreateWorkload, float]:
        """The next attempt, and in how many seconds; what a failure costs is decided as everywhere.

        Only that nobody is given up here: whoever started this at the site may stop it.
        """
        try:
            observed = self._observer.read().observed()
        except StoreError:
            # As far as anybody can tell there was no progress.
            observed = Observed(milestones={self._seat.alias: ended.milestone})
        return attempt_after(ended, observed), wait_after(ended, observed, _BACKOFF).total_seconds()

    def _may_start(self) -> bool:
        """An external set is scored when there is something to score."""
        if self.role is WorkloadRole.TRAINER:
            return True
        try:
            return find(self._store, keys.exported(Variant.BASE), Exported) is not None
        except StoreError as error:
            self._view.away(error)
            return False

    def _start(self, action: CreateWorkload) -> None:
        seat = self._seat
        records = Records(seat.invitation.store, seat.invitation.prefix)
        words = (*self._program, *command_line(self.role, records, seat.folders), *AS_A_CHILD)
        ca = None if seat.invitation.ca is None else str(seat.ca)
        proxy = seat.site.spec.proxy
        environment = {
            **store_environment(str(seat.credentials), seat.invitation.region, ca),
            # The folder with its password is this process's own to name, and inherited.
            **({} if proxy is None else proxy_environment(proxy.url, None)),
            "PYTHONUNBUFFERED": "1",
            **seat.environment,
            **self._threads(),
        }
        self._processes.create(action, words, environment)

    def _threads(self) -> dict[str, str]:
        try:
            control = newest_control(self._store)
        except StoreError:
            return {}
        return {} if control is None else threads_environment(control.spec.training.threads)

    def _end_of(self, workload: Workload) -> int | None:
        """The exit code of this command, or None where the trainer is to be started again."""
        match workload.exit_code:
            case Exit.DONE:
                self._view.say(f"Done: the federation is over for {self._seat.alias}.")
                return 0
            case Exit.REFUSED:
                raise Refusal(
                    f"{self._why(workload)}\nCorrect that and run the same command again; the site "
                    "then takes part again."
                )
            case Exit.SUPERSEDED:
                self._view.say(f"Another process of {self._seat.alias} has taken over; this one stops.")
                return int(Exit.SUPERSEDED)
            case _:
                return None

    def _why(self, workload: Workload) -> str:
        """All of it: this is the site's own terminal."""
        return last_words(self._processes.log(workload.role, workload.site), 0) or workload.message

    # --- credentials ------------------------------------------------------------------------------

    def _look_after_credentials(self) -> None:
        if time.monotonic() - self._renewed_at < self._renew_seconds:
            return
        try:
            self._renew()
        except (Outdated, Denied) as error:
            if adopt_new_join_file(self._seat):
                until = held_credentials(self._seat).expiration
                self._view.say(f"took the credentials of the new join file, good until {_time(until)}")
                self._renewed_at = float("-inf")
            else:
                self._view.say(_expired(self._seat, error))
        except StoreError as error:
            self._view.away(error)

    def _renew(self) -> None:
        """Take the newest credentials that were left for this site."""
        self._renewed_at = time.monotonic()
        try:
            number, fresh = newest_remote(self._store, self._seat.alias)
        except NotFound:
            return  # taken away between listing and reading, as newer ones came
        if fresh is None or number == self._adopted:
            return
        if fresh != held_credentials(self._seat):
            write_private(self._seat.credentials, encode_credentials(fresh))
            self._view.say(f"took credentials no. {number}, good until {_time(fresh.expiration)}")
        self._adopted = number

    def _show(self) -> None:
        try:
            self._view.show(self._store, self._seat, held_credentials(self._seat))
        except StoreError as error:
            self._view.away(error)


def _check_membership(seat: Seat, control: Control) -> None:
    """The coordinator's copy of the manifest and the site's own must agree on what is annotated."""
    member = control.members.get(seat.alias)
    if member is None or seat.site.spec.role is not Role.TRAINING:
        return  # not a member yet, or one that is only scored: the trainer waits
    if tuple(sorted(member.organs)) != seat.site.spec.organs:
        raise Refusal(
            f"{seat.site}: annotates {', '.join(seat.site.spec.organs)}, but the federation expects "
            f"{', '.join(member.organs)} from {seat.alias}. Send the coordinator your newest manifest, or "
            "correct it."
        )


def _check_key(seat: Seat, control: Control) -> str | None:
    """What to say of a site that has a key and is not known to have one.

    Raises:
        Refusal: the coordinator knows another key than the site's own manifest tells of.
    """
    told = seat.site.spec.signing
    if isinstance(control.writers, msgspec.UnsetType) or isinstance(told, msgspec.UnsetType):
        return None
    known = control.writers.get(keys.site(seat.alias))
    if known is None or told.public_key in known.keys:
        return None
    if known.keys:
        raise Refusal(
            f"{seat.site}: signs with the key {told.public_key[:12]}…, and the federation knows "
            f"{known.keys[0][:12]}… of {seat.alias}. Send the coordinator your newest manifest."
        )
    return f"{seat.alias} was let in without a key, so it signs from the next federation on."


def _expired(seat: Seat, error: StoreError) -> str:
    until = held_credentials(seat).expiration
    when = f"expired at {_time(until)}" if until and until <= datetime.now(UTC) else "are not accepted"
    return (
        f"{seat.alias}: the store's credentials {when} ({error}). Ask the coordinator of "
        f"{seat.invitation.federation} for a new join file, put it in the place of {seat.joinfile}, and run "
        "the same command if it has ended."
    )


def _time(moment: datetime | None) -> str:
    return "further notice" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
