"""The local body: a federation on one machine, with processes in place of Jobs.

Each turn reads the manifests (if they were edited), the processes and the records, asks `decide` what to do,
and does it. Whatever is killed, the next turn, or the next run, goes on from what is in the working folder.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import commit
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stop
from segviz_exchange.process.waiting import Alarm
from segviz_exchange.stores.changes import alarm_of
from segviz_exchange.stores.store import Denied, StoreError, Unavailable
from segviz_operator.local.ending import RunExit
from segviz_operator.local.invitations import Invitations
from segviz_operator.local.opening import OpenRun, open_run
from segviz_operator.local.programs import Programs, command
from segviz_operator.local.report_files import write_index
from segviz_operator.local.signing import keys_of, share_keys
from segviz_operator.local.watching import Watching
from segviz_operator.local.wishes import Request, Wishes, next_wishes
from segviz_operator.local.workdir import WorkDir
from segviz_operator.machine.processes import Processes
from segviz_operator.manifests.desired import desired_of
from segviz_operator.plan.command_line import threads_environment
from segviz_operator.plan.decide import (
    Action,
    Backoff,
    CreateWorkload,
    DeleteWorkload,
    WriteControl,
    decide,
)
from segviz_operator.plan.phase import FederationPhase
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.remote import remote_workloads
from segviz_operator.progress.retention import Sweeper, sweep
from segviz_operator.progress.status import FederationStatus, build_status
from segviz_operator.terminal.live import View

LOCAL_BACKOFF = Backoff(first_seconds=1.0, most_seconds=60.0)
"""Shorter than a cluster's: nobody else waits for this machine."""
_STORE_AWAY_SECONDS = 5.0
_LONGEST_REST_SECONDS = 1.0
"""As a person watches."""
_SHORTEST_REST_SECONDS = 0.05


def run_locally(
    request: Request,
    workdir: WorkDir,
    stop: Stop,
    view: View,
    programs: Programs | None = None,
    backoff: Backoff = LOCAL_BACKOFF,
) -> RunExit:
    """Run a federation until it is complete, has failed, or is interrupted.

    Raises:
        Refusal: the manifests, the folder or the data cannot be used; nothing was started.
    """
    with workdir.lock():
        watching = Watching(request.metrics_port, workdir)
        run = open_run(request, workdir, watching.metrics)
        workdir.remember(run.identity)
        write_index(run.identity, run.wishes, workdir)
        watching.open()
        body = LocalBody(run, view, watching, programs or Programs(), backoff)
        try:
            return body.run(stop)
        finally:
            body.close()


class LocalBody:
    def __init__(
        self, run: OpenRun, view: View, watching: Watching, programs: Programs, backoff: Backoff
    ) -> None:
        self._request = run.request
        self._workdir = run.workdir
        self._identity = run.identity
        self._wishes = run.wishes
        self._desired = run.desired
        self._edits = run.edits
        self._store = run.bucket.store
        self._observer = run.bucket.observer
        self._records = run.bucket.records
        self._view = view
        self._watching = watching
        self._programs = programs
        self._backoff = backoff
        self._processes = Processes(run.workdir.logs)
        self._sweeper = Sweeper(self._store)
        self._acted = False
        self._invitations = Invitations(self._identity, self._store, run.workdir.invitations)

    def close(self) -> None:
        self._view.close()
        self._processes.stop_all()
        self._watching.close()

    def run(self, stop: Stop) -> RunExit:
        self._tell_withdrawn(self._wishes.accepted.withdrawn)
        # What of the records makes work here; that a process ends is seen in itself.
        alarm = alarm_of(self._identity.open_store(), (keys.GLOBAL, keys.EXPORTS), _makes_work, stop)
        rested = True
        while not stop.requested:
            if rested:
                self._read_edits()  # which are taken when two looks, a rest apart, find them alike
            try:
                with self._watching.metrics.reconciling():
                    status = self._turn()
            except (Unavailable, Denied) as error:
                # The children wait for the store by themselves; a record that cannot be read decides nothing.
                self._view.say(f"{self._identity.store}: {type(error).__name__}: {error}. Trying again.")
                stop.wait(_STORE_AWAY_SECONDS)
                continue
            except StoreError as error:
                # No bucket, or a record of another version: nothing that waiting would mend.
                raise Refusal(f"{self._identity.store}: {type(error).__name__}: {error}") from error
            if status.phase == FederationPhase.COMPLETE:
                self._processes.drain()
                self._sweep_to_the_end()
                return RunExit.COMPLETE
            if status.phase == FederationPhase.FAILED:
                self._view.say(f"{status.name} has failed: {status.reason}")
                return RunExit.FAILED
            rested = not self._rest(stop, alarm)
        return RunExit.INTERRUPTED

    def _rest(self, stop: Stop, alarm: Alarm) -> bool:
        """Until it is time for another turn; says whether something asked for one earlier."""
        if self._acted:
            stop.wait(_SHORTEST_REST_SECONDS)
            return True
        seconds = min(_LONGEST_REST_SECONDS, self._request.poll_seconds)
        changed = alarm.wait(seconds, lambda: stop.requested or self._processes.has_news())
        return changed or self._processes.has_news()

    def _turn(self) -> FederationStatus:
        # Processes first: a record that one leaves before it ends is then seen with its end.
        workloads = self._processes.observe()
        self._records = records = self._observer.read()
        workloads += remote_workloads(self._wishes.specs, records)
        observed = records.observed(workloads)
        actions = decide(self._desired, observed, datetime.now(UTC), self._backoff)
        self._acted = bool(actions)
        self._apply(actions)
        self._invite(records)
        self._sweeper.sweep(records, self._observer.entries, self._kept_rounds)
        # Under a new control, an old one's failure says nothing.
        moved = any(isinstance(action, WriteControl) for action in actions)
        return self._show(self._observer.read() if moved else records)

    def _show(self, records: FederationRecords) -> FederationStatus:
        workloads = self._processes.observe() + remote_workloads(self._wishes.specs, records)
        status = build_status(self._identity.name, records, workloads, self._desired.paused)
        self._view.show(status, records)
        self._watching.show(self._identity, status, records, workloads)
        return status

    @property
    def _kept_rounds(self) -> int | None:
        """All, where the manifest has no `store`: nobody else pays for this folder."""
        wanted = self._wishes.accepted.federation.spec.store
        return None if wanted is None else wanted.retention.kept_rounds

    def _sweep_to_the_end(self) -> None:
        """Nobody comes again for what may go after the last turn."""
        try:
            while sweep(self._store, self._observer.read(), self._observer.entries, self._kept_rounds):
                pass
        except (Unavailable, Denied) as error:
            self._view.say(f"old models are left in {self._identity.store}: {error}")

    def _invite(self, records: FederationRecords) -> None:
        accepted = self._wishes.accepted
        try:
            invited = self._invitations.renew(accepted.everyone, accepted.federation.spec, records)
        except (Unavailable, Denied):
            raise
        except StoreError as error:
            raise Refusal(f"{error}. `segviz run` cannot invite remote sites to such a store.") from error
        for alias in invited:
            self._view.say(
                f"{alias} is remote. Send {self._invitations.file(alias)} to it over a secure channel; "
                f"there, run: segviz join {alias}.json --site SITE.yaml --data FOLDER --state FOLDER"
            )

    # --- applying ---------------------------------------------------------------------------------

    def _apply(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case WriteControl(control):
                    commit(self._store, keys.control(control.number), control)
                    for alias, member in sorted(control.members.items()):
                        if member.excluded:
                            self._view.say(f"{alias}: left out, {member.excluded}")
                case CreateWorkload():
                    self._create(action)
                case DeleteWorkload():
                    pass
        self._processes.delete([action for action in actions if isinstance(action, DeleteWorkload)])

    def _create(self, action: CreateWorkload) -> None:
        threads = self._wishes.accepted.federation.spec.training.threads
        environment = {"PYTHONUNBUFFERED": "1", **threads_environment(threads)}
        environment |= self._watching.environment(action.role, action.site)
        environment |= keys_of(self._identity, self._workdir, action.site)
        place = None if action.site is None else self._wishes.place(action.site)
        words = command(
            self._programs, self._workdir, self._identity, action.role, place, self._request.poll_seconds
        )
        self._processes.create(action, words, environment)

    # --- edits ------------------------------------------------------------------------------------

    def _read_edits(self) -> None:
        """Take up an edited manifest; one with a mistake is named once and changes nothing."""
        if not self._edits.take():
            return
        running = [each.site for each in self._processes.observe() if each.running and each.site is not None]
        try:
            wishes = next_wishes(self._request, self._identity, self._records, running)
        except Refusal as refusal:
            self._view.say(f"warning: the edited manifest is not used. {refusal}")
            return
        if wishes.accepted.federation.key != self._identity.key:
            self._view.say("warning: the edited manifest is not used. It names another federation.")
            return
        self._stop_what_changed(wishes)
        news = set(wishes.accepted.withdrawn) - set(self._wishes.accepted.withdrawn)
        self._wishes = wishes
        self._desired = replace(desired_of(wishes.accepted), retried=self._desired.retried)
        self._identity = self._identity.accepting(wishes.accepted)
        self._workdir.remember(self._identity)
        share_keys(self._identity, self._workdir)
        write_index(self._identity, wishes, self._workdir)
        self._view.say("the edited manifest is now in use")
        self._tell_withdrawn(sorted(news))

    def _stop_what_changed(self, wishes: Wishes) -> None:
        """At once, whatever the store does: an owner's newest word on consent or release holds from now on.

        `decide` starts again what is still wanted; of a refused site that was mended, this is another try.
        """
        stale = [
            DeleteWorkload(each.role, each.site, each.attempt)
            for each in self._processes.observe()
            if each.site is not None and wishes.place(each.site) != self._wishes.place(each.site)
        ]
        self._processes.delete(stale)

    def _tell_withdrawn(self, aliases: Iterable[str]) -> None:
        for alias in aliases:
            self._view.say(
                f"{alias}: has left: its owner withdrew consent (spec.allowedFederations or spec.limits of "
                f"the site keeps {self._identity.key} out)"
            )


def _makes_work(key: str) -> bool:
    return key == keys.FINAL or key.startswith((keys.FAILURES, keys.EXPORTS))
