"""The local body: a federation on one machine, with processes in place of Jobs.

Each turn reads the manifests (if they were edited), the processes and the records, asks `decide` what to do,
and does it. Whatever is killed, the next turn, or the next run, goes on from what is in the working folder.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path

from rich.console import Console

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import commit
from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stop
from segviz_exchange.stores.probe import probe
from segviz_exchange.stores.store import Denied, StoreError, Unavailable
from segviz_operator.local.files import ManifestFiles, Signature
from segviz_operator.local.identity import Identity, claim
from segviz_operator.local.invitations import Invitations, check_reachable
from segviz_operator.local.programs import Place, Programs, command
from segviz_operator.local.report_files import write_report
from segviz_operator.local.volumes import Volumes
from segviz_operator.local.watching import Watching
from segviz_operator.local.workdir import WorkDir
from segviz_operator.machine.processes import Processes
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.desired import desired_of
from segviz_operator.manifests.past import Past
from segviz_operator.plan.decide import (
    Action,
    Backoff,
    CreateWorkload,
    DeleteWorkload,
    WriteControl,
    decide,
    failure_of,
)
from segviz_operator.plan.phase import FederationPhase
from segviz_operator.progress.observe import FederationRecords, Observer
from segviz_operator.progress.remote import remote_workloads
from segviz_operator.progress.report import build_report
from segviz_operator.progress.retention import Sweeper, sweep
from segviz_operator.progress.status import FederationStatus, build_status
from segviz_operator.terminal.live import View
from segviz_operator.terminal.tables import print_report

LOCAL_BACKOFF = Backoff(first_seconds=1.0, most_seconds=60.0)
"""Shorter than a cluster's: nobody else waits for this machine."""


_STORE_AWAY_SECONDS = 5.0


class RunExit(IntEnum):
    COMPLETE = 0
    FAILED = 1
    REFUSED = 2
    INTERRUPTED = 130


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    files: ManifestFiles
    volumes: Volumes
    store: str | None
    poll_seconds: float
    metrics_port: int | None = None
    """Where it serves its metrics and its page, and from which port on each process serves its own."""


@dataclass(frozen=True)
class Wishes:
    """Accepted manifests, and where each site's images lie."""

    accepted: Accepted
    roots: Mapping[str, Path]

    @property
    def specs(self) -> dict[str, SiteSpec]:
        return {alias: site.spec for alias, site in self.accepted.everyone.items()}

    def place(self, alias: str) -> Place | None:
        site = self.accepted.everyone.get(alias)
        here = site is not None and not site.spec.remote
        return Place(alias, site.spec, self.roots[alias]) if site is not None and here else None


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
        body = LocalBody(request, workdir, view, programs or Programs(), backoff)
        body.begin()
        try:
            return body.run(stop)
        finally:
            view.close()
            body.processes.stop_all()
            body.watching.close()


class LocalBody:
    def __init__(
        self, request: Request, workdir: WorkDir, view: View, programs: Programs, backoff: Backoff
    ) -> None:
        self._request = request
        self._workdir = workdir
        self._view = view
        self._programs = programs
        self._backoff = backoff
        self.processes = Processes(workdir.logs)
        self.watching = Watching(request.metrics_port, workdir)
        self._signature = self._seen_signature = request.files.signature()
        known = workdir.identity()
        if known is not None:
            self._open(known)
        self._wishes = self._read_wishes(known)
        bucket, paths = workdir.bucket, request.files.paths
        self._identity = claim(known, self._wishes.accepted, paths, request.store, bucket)
        if known is None:
            self._open(self._identity)
        self._desired = desired_of(self._wishes.accepted)
        self._sweeper = Sweeper(self._store)
        self._invitations = Invitations(self._identity, self._store, workdir.invitations)

    def _open(self, identity: Identity) -> None:
        """Look at the store, and whether it can hold a federation where it is none of ours."""
        self._store = self.watching.metrics.measured(identity.open_store())
        self._observer = Observer(self._store)
        try:
            if identity.store != str(self._workdir.bucket):
                probe(self._store)
            self._records = self._observer.read()
        except StoreError as error:
            raise Refusal(
                f"store {identity.store}: {type(error).__name__}: {error}. Check --store and its "
                "credentials, or leave --store out to use a folder."
            ) from error

    def run(self, stop: Stop) -> RunExit:
        while not stop.requested:
            self._read_edits()
            try:
                with self.watching.metrics.reconciling():
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
                self.processes.drain()
                self._sweep_to_the_end()
                return RunExit.COMPLETE
            if status.phase == FederationPhase.FAILED:
                self._view.say(f"{status.name} has failed: {status.reason}")
                return RunExit.FAILED
            stop.wait(min(1.0, self._request.poll_seconds))
        return RunExit.INTERRUPTED

    def begin(self) -> None:
        """Make the folder this federation's; ask for another try where the last one failed."""
        self._workdir.remember(self._identity)
        self.watching.open()
        self._tell_withdrawn(self._wishes.accepted.withdrawn)
        control = self._records.control
        if control is not None and failure_of(control, self._records.observed()):
            self._desired = replace(self._desired, retried=control.number)

    def _turn(self) -> FederationStatus:
        # Processes first: a record that one leaves before it ends is then seen with its end.
        workloads = self.processes.observe()
        self._records = records = self._observer.read()
        workloads += remote_workloads(self._wishes.specs, records)
        observed = records.observed(workloads)
        actions = decide(self._desired, observed, datetime.now(UTC), self._backoff)
        self._apply(actions)
        self._invite(records)
        self._sweeper.sweep(records, self._observer.entries, self._kept_rounds)
        # Under a new control, an old one's failure says nothing.
        moved = any(isinstance(action, WriteControl) for action in actions)
        return self._show(self._observer.read() if moved else records)

    def _show(self, records: FederationRecords) -> FederationStatus:
        workloads = self.processes.observe() + remote_workloads(self._wishes.specs, records)
        status = build_status(self._identity.name, records, workloads, self._desired.paused)
        self._view.show(status, records)
        self.watching.show(self._identity, status, records, workloads)
        return status

    @property
    def _kept_rounds(self) -> int | None:
        """All, where the manifest has no `store`: nobody else pays for this folder."""
        wanted = self._wishes.accepted.federation.spec.store
        return None if wanted is None else wanted.retention.rounds

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
            raise Refusal(f"{error}. `segviz run` cannot invite remote sites into such a store.") from error
        for alias in invited:
            self._view.say(
                f"{alias}: is remote. Send it {self._invitations.file(alias)} by a safe way; there, run: "
                f"segviz join {alias}.json --site SITE.yaml --data FOLDER --state FOLDER"
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
        self.processes.delete([action for action in actions if isinstance(action, DeleteWorkload)])

    def _create(self, action: CreateWorkload) -> None:
        threads = str(self._wishes.accepted.federation.spec.training.threads)
        environment = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment |= self.watching.environment(action.role, action.site)
        place = None if action.site is None else self._wishes.place(action.site)
        words = command(
            self._programs, self._workdir, self._identity, action.role, place, self._request.poll_seconds
        )
        self.processes.create(action, words, environment)

    # --- edits ------------------------------------------------------------------------------------

    def _read_edits(self) -> None:
        """Take up an edited manifest; one with a mistake is named once and changes nothing."""
        signature = self._request.files.signature()
        if not self._is_settled(signature) or signature == self._signature:
            return
        self._signature = signature
        try:
            wishes = self._read_wishes(self._identity)
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
        self._view.say("the edited manifest is in force")
        self._tell_withdrawn(sorted(news))

    def _stop_what_changed(self, wishes: Wishes) -> None:
        """At once, whatever the store does: an owner's newest word on consent or release holds from now on.

        `decide` starts again what is still wanted; of a refused site that was mended, this is another try.
        """
        stale = [
            DeleteWorkload(each.role, each.site, each.attempt)
            for each in self.processes.observe()
            if each.site is not None and wishes.place(each.site) != self._wishes.place(each.site)
        ]
        self.processes.delete(stale)

    def _tell_withdrawn(self, aliases: Iterable[str]) -> None:
        for alias in aliases:
            self._view.say(
                f"{alias}: has left, its owner withdrew the consent (spec.allowedFederations no longer names "
                f"{self._identity.key})"
            )

    def _is_settled(self, signature: Signature) -> bool:
        """Seen twice alike: an editor may be half-way through writing."""
        settled = signature == self._seen_signature
        self._seen_signature = signature
        return settled

    def _read_wishes(self, known: Identity | None) -> Wishes:
        accepted = self._request.files.read(None if known is None else self._past(known))
        sites = () if known is None else known.sites
        self._request.volumes.check_aliases((*accepted.everyone, *sites))
        bucket = str(self._workdir.bucket)
        check_reachable(self._request.store or (bucket if known is None else known.store), accepted.everyone)
        return Wishes(accepted, self._request.volumes.roots(accepted))

    def _past(self, identity: Identity) -> Past:
        delivered = [alias for alias, site in self._records.sites.items() if site.has_delivered]
        running = [each.site for each in self.processes.observe() if each.running and each.site is not None]
        first = self._records.first_control
        return identity.past((*delivered, *running), first.organs if first else ())


def print_end(exit_: RunExit, workdir: WorkDir, console: Console) -> None:
    """The tables at the end, or how to go on."""
    identity = workdir.identity()
    assert identity is not None, "a run that was not refused has remembered itself"
    if exit_ is RunExit.INTERRUPTED:
        console.print("Stopped; nothing is lost. Run the same command again to continue.", highlight=False)
        return
    try:
        records = Observer(identity.open_store()).read()
    except StoreError as error:
        raise Refusal(
            f"{identity.store}: {type(error).__name__}: {error}. The run is over and its results are there: "
            "run the same command again for the report."
        ) from error
    report = build_report(identity.name, records, workdir.models)
    # Also where the run has failed after the final model: a lost external set takes no other result along.
    if report is not None:
        write_report(report, workdir)
        print_report(report, console)
        for file in (workdir.report_json, workdir.report_csv):
            console.print(f"  report {file}", soft_wrap=True, highlight=False)
    if exit_ is RunExit.FAILED:
        console.print(f"Logs: {workdir.logs}", markup=False, highlight=False, soft_wrap=True)
