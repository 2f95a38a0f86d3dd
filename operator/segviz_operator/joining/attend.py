"""`segviz join`: one site outside the cluster, with nothing but a join file.

The trainer is the one that a Job runs, as a child process. Around it is what a cluster would do: renew its
credentials, start it again when it crashed, show how it stands.
"""

import stat
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console

from segviz_exchange.contract import keys
from segviz_exchange.contract.join import Invitation, read_invitation
from segviz_exchange.contract.records import Control, Exported, find, newest_control
from segviz_exchange.contract.spec import Role
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.stopping import Stop
from segviz_exchange.stores.credentials import (
    Credentials,
    CredentialsFile,
    decode_credentials,
    encode_credentials,
)
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.s3_errors import Outdated
from segviz_exchange.stores.store import Denied, NotFound, Store, StoreError, Unavailable
from segviz_operator.access.sts import newest_remote
from segviz_operator.joining.view import JoinView, open_join_view
from segviz_operator.local.programs import SITE_TASKS
from segviz_operator.machine.processes import Processes
from segviz_operator.machine.writing import write_private
from segviz_operator.manifests.manifest import Site, load
from segviz_operator.plan.decide import Backoff, CreateWorkload
from segviz_operator.plan.workload import Workload, WorkloadRole, role_at

RENEW_SECONDS = 30.0
"""How often the site looks for its next credentials: far less than half the life of the shortest ones."""
_LOOK_SECONDS = 2.0
_BACKOFF = Backoff(first_seconds=5.0, most_seconds=300.0)

_EXAMPLES = """\b
Examples:
  segviz join basel.json --site site.yaml --data /data/ct --state /data/segviz
"""

Program = tuple[str, ...]
TRAINER: Program = (sys.executable, "-m", "segviz_trainer")


@click.command(epilog=_EXAMPLES)
@click.argument("joinfile", type=click.Path(path_type=Path))
@click.option(
    "--site",
    "manifest",
    required=True,
    type=click.Path(path_type=Path),
    help="The site's own SegVizSite: data sets, release, and which federations it consents to.",
)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Where the site's volume is on this machine.",
)
@click.option(
    "--state",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="A private folder that stays: checkpoints, cached images, heads, credentials.",
)
@click.option("--renew-seconds", default=RENEW_SECONDS, hidden=True, type=click.FloatRange(min=0.1))
def join(joinfile: Path, manifest: Path, data: Path, state: Path, renew_seconds: float) -> None:
    """Take part in a federation from outside its cluster.

    JOINFILE comes from the coordinator and holds credentials: keep it as a password. All that is read and
    written goes through the federation's object store; nothing connects to this machine. After Ctrl-C, a
    crash or a power cut, the same command goes on where it was.

    \b
    Exit codes: 0 the federation is over for this site, 2 a mistake in the input
    or a refusal, 3 another process of this site took over, 130 interrupted.
    """
    stop = Stop()
    console = Console(highlight=False)
    seat = take_seat(joinfile, manifest, data, state, console)
    with open_join_view(console, seat.alias) as view:
        code = Joining(seat, view, stop, TRAINER, renew_seconds).run()
    sys.exit(code)


@dataclass(frozen=True)
class Seat:
    """A site's place in a federation, as this machine knows it."""

    invitation: Invitation
    site: Site
    data: Path
    state: Path

    @property
    def alias(self) -> str:
        return self.invitation.alias

    @property
    def credentials(self) -> Path:
        return self.state / "credentials.json"

    @property
    def ca(self) -> Path:
        return self.state / "ca.crt"

    def open_store(self) -> S3Store:
        store = S3Store.from_url(
            self.invitation.store,
            CredentialsFile(self.credentials),
            ca_pem=self.invitation.ca,
            region=self.invitation.region,
        )
        return store.scoped(self.invitation.prefix)


def take_seat(joinfile: Path, manifest: Path, data: Path, state: Path, console: Console) -> Seat:
    """Check all that can be checked before anything is sent.

    Raises:
        Refusal: what is wrong, and what to do.
    """
    invitation = read_invitation(joinfile)
    _check_mode(joinfile, console)
    site = _only_site(manifest)
    if invitation.federation not in site.spec.allowed_federations:
        raise Refusal(
            f"{manifest}: {site} does not consent to {invitation.federation}. If it shall take part, add "
            f"{invitation.federation} to its spec.allowedFederations."
        )
    if site.spec.suspend:
        raise Refusal(f"{manifest}: {site} is suspended. Set spec.suspend to false to take part.")
    for data_set in site.spec.data_sets:
        if not (data / data_set.path).exists():
            raise Refusal(
                f"--data {data}: data set {data_set.name!r} should lie in {data / data_set.path}, which is "
                "not there. Correct the path, or get the data."
            )
    # One folder may serve several federations, or one made again.
    own = state.resolve() / invitation.prefix
    try:
        own.mkdir(parents=True, exist_ok=True)
        own.chmod(0o700)
        seat = Seat(invitation, site, data.resolve(), own)
        _keep_best_credentials(seat)
        if invitation.ca is not None:
            write_private(seat.ca, invitation.ca.encode())
        write_private(own / "site.json", msgspec.json.encode(site.spec))
    except OSError as error:
        raise Refusal(
            f"--state {state}: {error.strerror}: {error.filename}. Choose another folder."
        ) from error
    return seat


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
        self._processes = Processes(seat.state / "logs")
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

    def _attend(self) -> int:
        attempt, failures, not_before = 0, 0, 0.0
        while not self._stop.requested:
            self._look_after_credentials()
            workload = next(iter(self._processes.observe()), None)
            if workload is not None and not workload.running:
                self._processes.stop_all()
                if (code := self._end_of(workload)) is not None:
                    return code
                failures += 1
                wait = _BACKOFF.after(failures).total_seconds()
                not_before = time.monotonic() + wait
                self._view.say(f"the trainer ended: {workload.message}. Again in {wait:g} s.")
            elif workload is None and time.monotonic() >= not_before and self._may_start():
                attempt += 1
                self._start(attempt)
            self._show()
            self._stop.wait(_LOOK_SECONDS)
        self._view.say("Stopped; nothing is lost. Run the same command again to continue.")
        return 130

    def _may_start(self) -> bool:
        """An external set is scored when there is something to score."""
        if self.role is WorkloadRole.TRAINER:
            return True
        try:
            return find(self._store, keys.exported("base"), Exported) is not None
        except StoreError as error:
            self._view.away(error)
            return False

    def _start(self, attempt: int) -> None:
        seat = self._seat
        words = (
            *self._program,
            SITE_TASKS[self.role],
            *("--store", seat.invitation.store, "--prefix", seat.invitation.prefix, "--stop-on-stdin-eof"),
            *("--site", seat.alias, "--site-spec", str(seat.state / "site.json")),
            *("--data-root", str(seat.data), "--state", str(seat.state)),
        )
        environment = {
            "SEGVIZ_STORE_CREDENTIALS": str(seat.credentials),
            "AWS_REGION": seat.invitation.region,
            "PYTHONUNBUFFERED": "1",
            **self._threads(),
            **({} if seat.invitation.ca is None else {"SEGVIZ_STORE_CA": str(seat.ca)}),
        }
        self._processes.create(CreateWorkload(self.role, seat.alias, attempt), words, environment)

    def _threads(self) -> dict[str, str]:
        try:
            control = newest_control(self._store)
        except StoreError:
            return {}
        if control is None:
            return {}
        threads = str(control.spec.training.threads)
        return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}

    def _end_of(self, workload: Workload) -> int | None:
        """The exit code of this command, or None where the trainer is to be started again."""
        match workload.exit_code:
            case Exit.DONE:
                self._view.say(f"Done: the federation is over for {self._seat.alias}.")
                return 0
            case Exit.REFUSED:
                raise Refusal(
                    f"{workload.message}\nMend that and run the same command again, and the site is "
                    "asked for again."
                )
            case Exit.SUPERSEDED:
                self._view.say(f"Another process of {self._seat.alias} has taken over; this one stops.")
                return int(Exit.SUPERSEDED)
            case _:
                return None

    # --- credentials ------------------------------------------------------------------------------

    def _look_after_credentials(self) -> None:
        if time.monotonic() - self._renewed_at < self._renew_seconds:
            return
        try:
            self._renew()
        except (Outdated, Denied) as error:
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
        if fresh != _held(self._seat):
            write_private(self._seat.credentials, encode_credentials(fresh))
            self._view.say(f"took credentials no. {number}, good until {_time(fresh.expiration)}")
        self._adopted = number

    def _show(self) -> None:
        try:
            self._view.show(self._store, self._seat, _held(self._seat))
        except StoreError as error:
            self._view.away(error)


def _held(seat: Seat) -> Credentials:
    return decode_credentials(seat.credentials.read_bytes(), str(seat.credentials))


def _keep_best_credentials(seat: Seat) -> None:
    """Of the join file's and those that an earlier self took, the ones that hold longer."""
    offered = seat.invitation.credentials
    try:
        held = _held(seat)
    except (OSError, Refusal):
        held = None
    forever = datetime.max.replace(tzinfo=UTC)
    if held is None or (offered.expiration or forever) >= (held.expiration or forever):
        write_private(seat.credentials, encode_credentials(offered))


def _check_mode(path: Path, console: Console) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IROTH:
        raise Refusal(
            f"{path}: everybody on this machine can read it, and it holds credentials. Run: chmod 600 {path}"
        )
    if mode & stat.S_IRGRP:
        console.print(f"warning: {path} can be read by its group; better: chmod 600 {path}", markup=False)


def _only_site(manifest: Path) -> Site:
    sites = load((manifest,)).sites
    if len(sites) != 1:
        raise Refusal(f"{manifest}: {len(sites)} SegVizSites in there. Name a file with this site's alone.")
    return sites[0]


def _check_membership(seat: Seat, control: Control) -> None:
    """The coordinator's copy of the manifest and the site's own must agree on what is annotated."""
    member = control.members.get(seat.alias)
    if member is None or seat.site.spec.role is not Role.TRAINING:
        return  # not a member yet, or one that is only scored: the trainer waits
    if tuple(sorted(member.organs)) != seat.site.spec.organs:
        raise Refusal(
            f"{seat.site}: annotates {', '.join(seat.site.spec.organs)}, but the federation takes "
            f"{seat.alias} for {', '.join(member.organs)}. Give the coordinator your newest manifest, or "
            "correct it."
        )


def _expired(seat: Seat, error: StoreError) -> str:
    until = _held(seat).expiration
    when = f"expired at {_time(until)}" if until and until <= datetime.now(UTC) else "are not accepted"
    return (
        f"{seat.alias}: the store's credentials {when} ({error}). Ask the coordinator of "
        f"{seat.invitation.federation} for a new join file, and run the same command with it."
    )


def _time(moment: datetime | None) -> str:
    return "further notice" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
