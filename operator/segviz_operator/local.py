"""The local body: a federation on one machine, with processes in place of Jobs.

Each turn reads the manifests (if they were edited), the processes and the records, asks `plan` what to do,
and does it. Whatever is killed, the next turn, or the next run, goes on from what is in the working folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path

from rich.console import Console

from segviz_exchange import keys
from segviz_exchange.errors import Refusal
from segviz_exchange.records import commit
from segviz_exchange.stopping import Stop
from segviz_exchange.store import Denied, StoreError, Unavailable
from segviz_operator.acceptance import Accepted
from segviz_operator.desired import ManifestFiles, Signature, desired_of
from segviz_operator.live import View
from segviz_operator.observe import FederationRecords, Observer
from segviz_operator.phase import FederationPhase
from segviz_operator.plan import (
    Action,
    Backoff,
    CreateWorkload,
    DeleteWorkload,
    WriteControl,
    failure_of,
    plan,
)
from segviz_operator.processes import Processes
from segviz_operator.programs import Place, Programs, command
from segviz_operator.report import build_report, write_report
from segviz_operator.status import FederationStatus, build_status
from segviz_operator.tables import print_report
from segviz_operator.volumes import Volumes
from segviz_operator.workdir import Identity, WorkDir, new_uid

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


@dataclass(frozen=True)
class Wishes:
    """Accepted manifests, and where each site's images lie."""

    accepted: Accepted
    roots: Mapping[str, Path]


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
        known = workdir.identity()
        self._signature = self._seen_signature = request.files.signature()
        self._wishes = self._read_wishes(known)
        request.volumes.check_aliases(self._wishes.accepted)
        self._identity = _identity(known, self._wishes.accepted, request, workdir)
        self._store = self._identity.open_store()
        self._observer = Observer(self._store)
        self._desired = desired_of(self._wishes.accepted)

    def run(self, stop: Stop) -> RunExit:
        while not stop.requested:
            self._read_edits()
            try:
                status = self._turn()
            except (Unavailable, Denied) as error:
                # The children wait for the store by themselves; a record that cannot be read decides nothing.
                self._view.say(f"{self._identity.store}: {type(error).__name__}: {error}. Trying again.")
                stop.wait(_STORE_AWAY_SECONDS)
                continue
            if status.phase == FederationPhase.COMPLETE:
                self.processes.drain()
                return RunExit.COMPLETE
            if status.phase == FederationPhase.FAILED:
                self._view.say(f"{status.name} has failed: {status.reason}")
                return RunExit.FAILED
            stop.wait(min(1.0, self._request.poll_seconds))
        return RunExit.INTERRUPTED

    def begin(self) -> None:
        """Make the folder this federation's; ask for another try where the last one failed."""
        try:
            records = self._observer.read()
        except StoreError as error:
            raise Refusal(
                f"store {self._identity.store}: {type(error).__name__}: {error}. Check --store and its "
                "credentials, or leave --store out to use a folder."
            ) from error
        self._workdir.remember(self._identity)
        control = records.control
        if control is not None and failure_of(control, records.observed()):
            self._desired = replace(self._desired, retried=control.number)

    def _turn(self) -> FederationStatus:
        # Processes first: a record that one leaves before it ends is then seen with its end.
        workloads = self.processes.observe()
        records = self._observer.read()
        observed = records.observed(workloads)
        actions = plan(self._desired, observed, datetime.now(UTC), self._backoff)
        self._apply(actions)
        # Under a new control, an old one's failure says nothing.
        moved = any(isinstance(action, WriteControl) for action in actions)
        return self._show(self._observer.read() if moved else records)

    def _show(self, records: FederationRecords) -> FederationStatus:
        status = build_status(self._identity.name, records, self.processes.observe())
        self._view.show(status, records)
        return status

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
        place = None if action.site is None else self._place(action.site)
        words = command(
            self._programs, self._workdir, self._identity, action.role, place, self._request.poll_seconds
        )
        self.processes.create(action, words, environment)

    def _place(self, alias: str) -> Place:
        accepted = self._wishes.accepted
        site = accepted.members.get(alias) or accepted.evaluators[alias]
        return Place(alias, site.spec, self._wishes.roots[alias])

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
        if wishes.accepted.federation.key != f"{self._identity.namespace}/{self._identity.name}":
            self._view.say("warning: the edited manifest is not used. It names another federation.")
            return
        self._wishes = wishes
        self._desired = replace(desired_of(wishes.accepted), retried=self._desired.retried)
        self._identity = replace_accepted(self._identity, wishes.accepted)
        self._workdir.remember(self._identity)
        self._view.say("the edited manifest is in force")

    def _is_settled(self, signature: Signature) -> bool:
        """Seen twice alike: an editor may be half-way through writing."""
        settled = signature == self._seen_signature
        self._seen_signature = signature
        return settled

    def _read_wishes(self, known: Identity | None) -> Wishes:
        accepted = self._request.files.read(None if known is None else known.accepted)
        return Wishes(accepted, self._request.volumes.roots(accepted))


def print_end(exit_: RunExit, workdir: WorkDir, console: Console) -> None:
    """The tables at the end, or how to go on."""
    identity = workdir.identity()
    assert identity is not None, "a run that was not refused has remembered itself"
    if exit_ is RunExit.INTERRUPTED:
        console.print("Stopped; nothing is lost. Run the same command again to continue.", highlight=False)
        return
    records = Observer(identity.open_store()).read()
    report = build_report(identity.name, records, workdir.models)
    if exit_ is RunExit.COMPLETE and report is not None:
        write_report(report, workdir)
        print_report(report, console)
        for file in (workdir.report_json, workdir.report_csv):
            console.print(f"  report {file}", soft_wrap=True, highlight=False)
    if exit_ is RunExit.FAILED:
        console.print(f"Logs: {workdir.logs}", markup=False, highlight=False, soft_wrap=True)


def replace_accepted(identity: Identity, accepted: Accepted) -> Identity:
    raw = dict(accepted.federation.raw)
    return Identity(identity.namespace, identity.name, identity.uid, identity.store, identity.manifests, raw)


def _identity(known: Identity | None, accepted: Accepted, request: Request, workdir: WorkDir) -> Identity:
    """The folder's own, or a new one.

    Raises:
        Refusal: the folder belongs to another federation, or to another store.
    """
    federation = accepted.federation
    files = tuple(str(path.resolve()) for path in request.files.paths)
    if known is None:
        store = str(workdir.bucket) if request.store is None else _absolute(request.store)
        return Identity(federation.namespace, federation.name, new_uid(), store, files, dict(federation.raw))
    if (known.namespace, known.name) != (federation.namespace, federation.name):
        raise Refusal(
            f"{workdir.root}: holds the federation {known.namespace}/{known.name}, not {federation.key}. "
            "Choose another --workdir."
        )
    if request.store is not None and _absolute(request.store) != known.store:
        raise Refusal(
            f"--store {request.store}: this run keeps its records in {known.store}. Leave --store out, or "
            "choose another --workdir."
        )
    return replace_accepted(known, accepted)


def _absolute(store: str) -> str:
    """`segviz status` may be called from anywhere."""
    return store if "://" in store else str(Path(store).resolve())
